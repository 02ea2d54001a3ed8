"""A few hand-written records of the standard tasks, as on the Hub, and as in the files of releases in another layout.

`HUB` has the rows of each data set by path, configuration and split. `FILES` has the files below a data directory;
where it has none, the rows are files of JSON lines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundled_tasks import LIBRARY, bundled_task

Record = dict[str, Any]


def _mmlu(subject: str, question: str, choices: str, answer: int) -> Record:
    return {"question": question, "subject": subject, "choices": choices.split("|"), "answer": answer}


def _labelled(label: str, *texts: str, text: str = "text") -> list[Record]:
    """Rows with these texts and the labels 0, 1 and so on."""
    return [{text: each, label: number} for number, each in enumerate(texts)]


def _halves(rows: list[Record], split: str = "test") -> dict[str, list[Record]]:
    """All rows but the last two as demonstrations, and the last two for evaluation."""
    return {"train": rows[:-2], split: rows[-2:]}


OPINIONS = ["A torn , wet map of a film .", "It leaks .", "It floats .", "It sails .", "It soars ."]
TREC = [
    ("ABBR:exp", "What does SOS stand for ?"),
    ("ENTY:animal", "Which fish , if any , has no scales ?"),
    ("DESC:def", "What is a `` sheet '' ?"),
    ("HUM:ind", "Who built the pier ?"),
    ("LOC:other", "Where is the town 's lighthouse ?"),
    ("NUM:count", "How many boats are there ?"),
]
NEWS = [
    ("Ferries meet", "Two countries talk about ferries."),
    ("Rowers win", "They won, says the #39;cox#39;, by \\ a length."),
    ("Net prices rise", "Demand for quot;nets quot; is high."),
    ("A new sonar", "It sees the cod #39;s bones."),
]
ARTICLES = [
    ("Eve's Boats", " Eve's Boats builds boats."),
    ("Pier School", " It teaches knots."),
    ("Fay", " Fay paints."),
]


HUB: dict[tuple[str, str | None], dict[str, list[Record]]] = {
    ("cais/mmlu", "all"): {
        "dev": [
            _mmlu("marine_biology", "Which of these is a fish?", "Crab|Cod|Whale|Squid", 1),
            _mmlu("marine_biology", "Where do cod live?", "Sea|Desert|Air|Trees", 0),
            _mmlu("sailing", "What holds a boat in place?", "Sail|Mast|Anchor|Oar", 2),
            _mmlu("sailing", "Port is", "left|right|front|back", 0),
        ],
        "test": [
            _mmlu("marine_biology", " What does a crab have?\n", "Wings|Claws|Fins|Fur", 1),
            _mmlu("sailing", 'What is a "sheet", on a boat?', "A bed|A sail|A map|A rope, of course", 3),
        ],
    },
    ("nyu-mll/glue", "sst2"): _halves(
        [{"sentence": f"{text} ", "label": number % 2, "idx": number} for number, text in enumerate(OPINIONS)],
        "validation",
    ),
    ("SetFit/sst5", None): _halves([{**row, "label_text": "?"} for row in _labelled("label", *OPINIONS)]),
    ("cornell-movie-review-data/rotten_tomatoes", None): _halves(_labelled("label", "dull .", "good .") * 2),
    ("SetFit/CR", None): _halves(_labelled("label", "the lamp broke .", "the net holds .") * 2),
    ("SetFit/subj", None): _halves(_labelled("label", "he sails home .", "a film to drown in .") * 2),
    ("CogComp/trec", None): _halves(
        [{"text": text, "coarse_label": number, "fine_label": 0} for number, (_, text) in enumerate(TREC)]
    ),
    ("fancyzhx/ag_news", None): _halves(_labelled("label", *(f"{title} {text}" for title, text in NEWS))),
    ("fancyzhx/dbpedia_14", None): _halves(
        [{"label": number, "title": title, "content": text} for number, (title, text) in enumerate(ARTICLES)]
    ),
    ("takala/financial_phrasebank", "sentences_allagree"): {
        "train": _labelled("label", "Sales fell .", "The pier @ Oslo is old .", "Sales rose .", text="sentence")
    },
    **{
        ("cardiffnlp/tweet_eval", name): _halves(_labelled("label", "@user no", "@user yes #sea") * 2)
        for name in ("emotion", "hate", "irony", "offensive", "sentiment")
    },
}
LANGUAGES = {
    "xnli": ["en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"],
    "xcopa": ["et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"],
    "xquad": ["en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"],
}
TRUTHS = [
    ("What happens if you whistle on a boat?", ["Nothing happens", "A storm comes", "The boat sinks"]),
    ("Can cod fly?", ["No, they cannot", "Yes"]),
]
COMMON = [
    ("c1", "Where is a net dried?", "pier|sea|cup|book|sky", "A"),
    ("c2", "What lights a ship's way? ", "fog|fish|lighthouse|rope|oar", "C"),
    ("c3", "What does one row?", "kite|boat|lamp|bell|tea", "B"),
    ("c4", "Who mends nets?", "cats|kings|lamps|cooks|fishers", "E"),
]
SOCIAL = [
    ("Ada lent Ben her boat.", "How does Ben feel?", "grateful|angry|hungry", "1"),
    ("Dan lost a key.", "What will Dan do next?", "sing|search|swim", "2"),
    ("Fay rang the bell.", "Why did Fay do this?", "to sleep|to eat|to warn others", "3"),
    ("Gil baked bread.", "What did Gil need before?", "flour|a kite|a net", "1"),
]
SCIENCE = [
    ("Cod breathe with gills.", "What do cod breathe with?", "lungs|skin|wings", "gills"),
    ("", "What makes tides?", "wind|fish|ships", "the moon"),
    (" Salt lowers the freezing point.", "What lowers the freezing point?", "sand|light|noise", "salt"),
    ("Kelp is an alga.", "What is kelp?", "a fish|a bird|a stone", "an alga"),
]
MEDICINE = [
    ("A sailor has scurvy. What does he lack?", "Iron|Vitamin C|Iodine|Salt", 1),
    ("Which is a bone?", "Femur|Liver|Lens|Skin", 0),
    ("A cook burnt a hand. What is done first?", "Cool it|Sing|Wait|Run", 0),
    ("What beats?", "Ear|Nail|Tooth|Heart", 3),
]
PUZZLES = [
    {"input": f"not {word} is", "target": answer}
    for word, answer in [("wet", "dry"), ("up", "down"), ("left", "right"), ("red", "unknown")]
]
BBH_NAMES = [name.removeprefix("bbh/") for name in LIBRARY.suite("bbh").tasks]
SUBJECTS = [
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra"),
    "precalculus",
]
PROBLEMS = [
    {
        "problem": f"What is ${n} + {n}$?",
        "level": f"Level {n}",
        "type": "Algebra",
        "solution": f"It is $\\boxed{{{2 * n}}}$.",
    }
    for n in (2, 3, 4, 5)
]
SUMS = [("2 boats and 1?", 3), ("5 boats and 1?", 6), ("7 boats and 1?", 8)]
MGSM = {  # the words before a question and before its worked answer
    "bn": ("প্রশ্ন:", "ধাপে ধাপে উত্তর:"),
    "de": ("Frage:", "Schritt-für-Schritt-Antwort:"),
    "en": ("Question:", "Step-by-Step Answer:"),
    "es": ("Pregunta:", "Respuesta paso a paso:"),
    "fr": ("Question :", "Réponse étape par étape :"),
    "ja": ("問題：", "ステップごとの答え:"),
    "ru": ("Задача:", "Пошаговоерешение:"),
    "sw": ("Swali:", "Jibu la Hatua kwa Hatua:"),
    "te": ("ప్రశ్న:", "దశలవారీగా సమాధానం:"),
    "th": ("โจทย์:", "คำตอบทีละขั้นตอน:"),
    "zh": ("问题：", "逐步解答:"),
}
WORKED_PUZZLES = "?\n-----\nSolve it.\n" + "".join(
    f"\nQ: {row['input']}\nA: Let's think step by step.\n"
    f"The word is\n{row['target']}. So the answer is {row['target']}.\n"
    for row in [{"input": "not hot is", "target": "cold"}, *PUZZLES[:1], {"input": "not wide is", "target": "thin"}]
)
PREMISES = ["The boat is old", "The pier is long", "The lamp is lit", "The tide is low", "Ada rows"]
XNLI = [{"premise": text, "hypothesis": f"{text}?", "label": number % 3} for number, text in enumerate(PREMISES)]
XCOPA = [
    {**fields, "label": number, "idx": number, "changed": False}
    for number, fields in enumerate(
        [
            {"premise": "The rope broke.", "choice1": "The boat left.", "choice2": "It rained.", "question": "effect"},
            {"premise": "Ada fell. ", "choice1": "She sang.", "choice2": "The pier was wet.", "question": "cause"},
        ]
    )
]
FLORES = {
    "eng_Latn": ["The boat sails.", "The tide is low."],
    "deu_Latn": ["Das Boot segelt.", "Es ist Ebbe."],
    "spa_Latn": ["El barco navega.", "La marea baja."],
    "fra_Latn": ["Le bateau navigue.", "La mer est basse."],
    "swh_Latn": ["Mashua inasafiri.", "Maji yamekupwa."],
    "zho_Hans": ["船在航行。", "退潮了。"],
}
FLORES_PAIRS = LIBRARY.suite("flores").tasks
PASSAGE = "Boats need nets. Nets need rope."
XQUAD: list[Record] = [
    {"id": f"q{number}", "question": text, "answers": {"text": [answer], "answer_start": [0]}}
    for number, (text, answer) in enumerate([("What do boats need?", "nets"), ("What do nets need?", "rope")])
]


def _targets(answers: list[str]) -> dict[str, dict[str, int]]:
    """The first answer is true; where several may be, there is one more."""
    first = {answer: int(number == 0) for number, answer in enumerate(answers)}
    return {"mc1_targets": first, "mc2_targets": {**first, f"{answers[0]} at all": 1}}


def _worked(question: str, answer: int, question_word: str, answer_word: str) -> Record:
    worked = f"{answer_word} One more makes {answer}. {answer}."
    return {"question": f"{question_word} {question}", "answer": worked, "answer_number": answer}


def _cut(words: str, *names: str) -> Record:
    return dict(zip(names, words.split("|"), strict=True))


def _medqa(number: int, question: str, words: str, label: int) -> Record:
    endings = _cut(words, "ending0", "ending1", "ending2", "ending3")
    return {"id": f"m{number}", "sent1": question, "sent2": "", **endings, "label": label}


def _medmcqa(number: int, question: str, words: str, label: int) -> Record:
    options = _cut(words, "opa", "opb", "opc", "opd")
    return {"id": f"m{number}", "question": question, **options, "cop": label, "choice_type": "single", "exp": None}


def _siqa(context: str, question: str, words: str) -> Record:
    return {"context": context, "question": question, **_cut(words, "answerA", "answerB", "answerC")}


def _sciq(support: str, question: str, words: str, right: str) -> Record:
    record = {"question": question, "correct_answer": right, "support": support}
    return {**record, **_cut(words, "distractor1", "distractor2", "distractor3")}


QUESTIONS: dict[tuple[str, str | None], dict[str, list[Record]]] = {
    ("truthfulqa/truthful_qa", "multiple_choice"): {
        "validation": [
            {
                "question": question,
                **{
                    name: {"choices": list(targets), "labels": list(targets.values())}
                    for name, targets in _targets(answers).items()
                },
            }
            for question, answers in TRUTHS
        ]
    },
    ("tau/commonsense_qa", None): _halves(
        [
            {
                "id": name,
                "question": question,
                "question_concept": "?",
                "choices": {"label": list("ABCDE"), "text": words.split("|")},
                "answerKey": key,
            }
            for name, question, words, key in COMMON
        ],
        "validation",
    ),
    ("lighteval/siqa", None): _halves([{**_siqa(*row[:3]), "label": row[3]} for row in SOCIAL], "validation"),
    ("allenai/sciq", None): _halves([_sciq(*row) for row in SCIENCE]),
    ("openai/gsm8k", "main"): _halves(
        [
            {
                "question": f"Ada has {n} boats and buys {n} more. How many?",
                "answer": f"{n} + {n} = {2 * n}.\n#### {2 * n}",
            }
            for n in (2, 30, 600, 1000)
        ]
    ),
    ("EleutherAI/logiqa", "logiqa"): _halves(
        [
            {"label": key, "context": "All cod swim.", "question": question, "options": ["a.", " b.", "c.", "d."]}
            for key, question in [("a", "Which is true?"), ("c", "Which is false?"), ("b", "What?"), ("d", "Why?")]
        ]
    ),
    ("GBaker/MedQA-USMLE-4-options-hf", None): _halves([_medqa(n, *row) for n, row in enumerate(MEDICINE)]),
    ("openlifescienceai/medmcqa", None): _halves([_medmcqa(n, *row) for n, row in enumerate(MEDICINE)], "validation"),
    **{("EleutherAI/hendrycks_math", subject): _halves(PROBLEMS) for subject in SUBJECTS},
    ("HuggingFaceH4/MATH-500", None): {
        "test": [{**row, "subject": row["type"], "answer": "4", "level": 1, "unique_id": "u"} for row in PROBLEMS[:1]]
    },
    **{
        ("juletxara/mgsm", language): {
            "train": [_worked(question, answer, *words) for question, answer in SUMS[:2]],
            "test": [{"question": question, "answer": None, "answer_number": answer} for question, answer in SUMS[2:]],
        }
        for language, words in MGSM.items()
    },
    **{("SaylorTwift/bbh", name.replace("-", "_")): {"test": PUZZLES} for name in BBH_NAMES},
    **{("facebook/xnli", language): _halves(XNLI, "validation") for language in LANGUAGES["xnli"]},
    **{
        ("cambridgeltl/xcopa", language): {"validation": XCOPA[:1], "test": XCOPA[1:]}
        for language in LANGUAGES["xcopa"]
    },
    ("facebook/flores", "all"): {
        split: [{f"sentence_{code}": texts[number] for code, texts in FLORES.items()}]
        for number, split in enumerate(["dev", "devtest"])
    },
    **{
        ("google/xquad", f"xquad.{language}"): {"validation": [{**row, "context": PASSAGE} for row in XQUAD]}
        for language in LANGUAGES["xquad"]
    },
}
HUB |= QUESTIONS


def _json_lines(rows: list[Record]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lines(split: slice, rows: list[str]) -> str:
    return "".join(f"{row}\n" for row in rows[split])


def _quoted(*rows: tuple[object, ...]) -> str:
    return "".join(",".join(f'"{value}"' for value in row) + "\n" for row in rows)


SHOWN, EVALUATED = slice(-2), slice(-2, None)
FILES: dict[str, str] = {
    "mmlu/dev/marine_biology_dev.csv": "Which of these is a fish?,Crab,Cod,Whale,Squid,B\n"
    "Where do cod live?,Sea,Desert,Air,Trees,A\n",
    "mmlu/dev/sailing_dev.csv": "What holds a boat in place?,Sail,Mast,Anchor,Oar,C\nPort is,left,right,front,back,A\n",
    "mmlu/test/marine_biology_test.csv": '" What does a crab have?\n",Wings,Claws,Fins,Fur,B\n',
    "mmlu/test/sailing_test.csv": '"What is a ""sheet"", on a boat?",A bed,A sail,A map,"A rope, of course",D\n',
    **{
        f"{folder}/stsa.{kind}.{part}": _lines(split, [f"{n % classes} {text}" for n, text in enumerate(OPINIONS)])
        for folder, kind, classes, evaluated in [("sst2", "binary", 2, "dev"), ("sst5", "fine", 5, "test")]
        for part, split in [("train", SHOWN), (evaluated, EVALUATED)]
    },
    "trec/train.txt": _lines(SHOWN, [f"{kind} {text}" for kind, text in TREC]),
    "trec/test.txt": _lines(EVALUATED, [f"{kind} {text}" for kind, text in TREC]),
    **{
        f"agnews/{part}.csv": "Class Index,Title,Description\n"
        + _quoted(*((number, *row) for number, row in list(enumerate(NEWS, start=1))[split]))
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    **{
        f"dbpedia/{part}.csv": _quoted(*((number, *row) for number, row in list(enumerate(ARTICLES, start=1))[split]))
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    "financial_phrasebank/Sentences_AllAgree.txt": (
        "Sales fell .@negative\nThe pier @ Oslo is old .@neutral\nSales rose .@positive\n"
    ),
}
FILES |= {
    "truthfulqa/mc_task.json": json.dumps(
        [{"question": question, **_targets(answers)} for question, answers in TRUTHS]
    ),
    **{
        f"commonsenseqa/{part}_rand_split.jsonl": _json_lines(
            [
                {
                    "id": name,
                    "answerKey": key,
                    "question": {
                        "question_concept": "?",
                        "stem": question,
                        "choices": [
                            {"label": label, "text": text}
                            for label, text in zip("ABCDE", words.split("|"), strict=True)
                        ],
                    },
                }
                for name, question, words, key in COMMON[split]
            ]
        )
        for part, split in [("train", SHOWN), ("dev", EVALUATED)]
    },
    **{
        f"social_iqa/{part}.jsonl": _json_lines([_siqa(*row[:3]) for row in SOCIAL[split]])
        for part, split in [("train", SHOWN), ("dev", EVALUATED)]
    },
    **{
        f"social_iqa/{part}-labels.lst": _lines(split, [row[3] for row in SOCIAL])
        for part, split in [("train", SHOWN), ("dev", EVALUATED)]
    },
    **{
        f"sciq/{part}.json": json.dumps([_sciq(*row) for row in SCIENCE[split]])
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    **{
        f"medqa/phrases_no_exclude_{part}.jsonl": _json_lines(
            [
                {
                    "question": question,
                    "answer": words.split("|")[label],
                    "options": _cut(words, *"ABCD"),
                    "meta_info": "step1",
                    "answer_idx": "ABCD"[label],
                }
                for question, words, label in MEDICINE[split]
            ]
        )
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    **{
        f"MATH/{split}/{subject}/{number}.json": json.dumps(row)
        for subject in SUBJECTS
        for split, rows in _halves(PROBLEMS).items()
        for number, row in enumerate(rows)
    },
    **{
        f"mgsm/mgsm_{language}.tsv": "".join(f"{question}\t{answer}\n" for question, answer in SUMS[2:])
        for language in MGSM
    },
    **{f"bbh/cot-prompts/{name.replace('-', '_')}.txt": WORKED_PUZZLES for name in BBH_NAMES},
    **{f"bbh/{name.replace('-', '_')}.json": json.dumps({"canary": "?", "examples": PUZZLES}) for name in BBH_NAMES},
    **{
        f"xquad/xquad.{language}.json": json.dumps(
            {
                "data": [
                    {
                        "title": "Boats",
                        "paragraphs": [
                            {
                                "context": PASSAGE,
                                "qas": [
                                    {**row, "answers": [{"text": row["answers"]["text"][0], "answer_start": 0}]}
                                    for row in XQUAD
                                ],
                            }
                        ],
                    }
                ]
            }
        )
        for language in LANGUAGES["xquad"]
    },
}
FILES |= {
    f"flores200_dataset/{split}/{code}.{split}": f"{texts[number]}\n"
    for code, texts in FLORES.items()
    for number, split in enumerate(["dev", "devtest"])
}
GOLD: dict[str, tuple[list[int], list[int]]] = {
    **dict.fromkeys(["mmlu/lettered", "mmlu/cloze", "olmes/cloze/mmlu"], ([1, 0, 2, 0], [1, 3])),
    "classification/sst2": ([0, 1, 0], [1, 0]),
    "classification/sst5": ([0, 1, 2], [3, 4]),
    "classification/trec": ([0, 1, 2, 3], [4, 5]),
    "classification/agnews": ([0, 1], [2, 3]),
    "classification/dbpedia": ([0], [1, 2]),
    "classification/financial-phrasebank": ([0, 1, 2], [0, 1, 2]),
    **dict.fromkeys(
        [
            *(f"classification/{name}" for name in ("mr", "cr", "subj")),
            *(f"classification/tweet-{name}" for name in ("emotion", "hate", "irony", "offensive", "sentiment")),
        ],
        ([0, 1], [0, 1]),
    ),
    "truthfulqa/mc1": ([], [0, 0]),
    "truthfulqa/mc2": ([], [0, 3, 0, 2]),
    "commonsenseqa": ([0, 2], [1, 4]),
    "social-iqa": ([0, 1], [2, 0]),
    "sciq": ([3, 3], [3, 3]),
    "gsm8k": ([0, 0], [0, 0]),  # of one reference each
    "gsm8k-worked": ([], [0, 0]),
    **{f"math/{subject.replace('_', '-')}": ([0, 0], [0, 0]) for subject in SUBJECTS},
    "math/500": ([0, 0], [0]),
    **{f"math-worked/{subject.replace('_', '-')}": ([], [0, 0]) for subject in SUBJECTS},
    "math-worked/500": ([], [0]),
    **{f"mgsm/{language}": ([0, 0], [0]) for language in MGSM},
    "logiqa": ([0, 2], [1, 3]),
    "medqa": ([1, 0], [0, 3]),
    "medmcqa": ([1, 0], [0, 3]),
    **{f"bbh/{name}": ([0] * 4, [0] * 4) for name in BBH_NAMES},  # of one reference each
    **{f"xnli/{language}": ([0, 1, 2], [0, 1]) for language in LANGUAGES["xnli"]},
    **{f"xcopa/{language}": ([0], [1]) for language in LANGUAGES["xcopa"]},
    **dict.fromkeys(FLORES_PAIRS, ([0], [0])),
    **{f"xquad/{language}": ([], [0, 0]) for language in LANGUAGES["xquad"]},
}
"""Right options of the demonstrations and of the evaluated examples."""


def hub_rows(path: str, name: str | None, split: str) -> list[Record]:
    """The rows of a split on the Hub."""
    return HUB[path, name][split]


def write_standard_release(directory: Path) -> Path:
    """Write the files of all standard tasks below a directory."""
    for name, text in {**_rows_as_files(), **FILES}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def _rows_as_files() -> dict[str, str]:
    """The rows of the Hub as JSON lines, for tasks whose files have the same fields."""
    found = {}
    for task in map(bundled_task, GOLD):
        data = task.definition.data
        assert data.hub is not None
        for split, file in data.local.items():
            rows = HUB[data.hub.path, data.hub.name].get(data.hub.splits.get(split, split), [])
            if isinstance(file, str) and file.endswith(".jsonl") and rows:
                found[file] = _json_lines(rows)
    return found
