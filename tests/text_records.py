"""A few hand-written records of each task whose answer is a text or a likelihood, as released and as on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Sum = tuple[str, list[str], dict[str, str]]  # an answer of DROP: number, spans, date

SPLITS: dict[str, tuple[str, str]] = {
    "nq": ("train", "validation"),
    "triviaqa": ("train", "validation"),
    "webquestions": ("train", "test"),
    "coqa": ("train", "validation"),
    "drop": ("train", "validation"),
    "quac": ("train", "validation"),
    "squadv2": ("train", "validation"),
    "translation/wmt14-fr-en": ("validation", "test"),
    "translation/wmt14-en-fr": ("validation", "test"),
    "translation/wmt16-de-en": ("validation", "test"),
    "translation/wmt16-en-de": ("validation", "test"),
    "translation/wmt16-ro-en": ("validation", "test"),
    "translation/wmt16-en-ro": ("validation", "test"),
    "lambada": ("validation", "test"),
    "lambada/original": ("validation", "test"),
    "wikitext-2": ("validation", "test"),
    "ptb": ("validation", "test"),
    "summarization/cnn-dailymail": ("train", "test"),
}
"""Tasks with the splits of the demonstrations and of the evaluated examples."""

ON_THE_HUB: dict[str, tuple[str, str | None]] = {
    "nq": ("google-research-datasets/nq_open", None),
    "triviaqa": ("mandarjoshi/trivia_qa", "rc.wikipedia.nocontext"),
    "webquestions": ("stanfordnlp/web_questions", None),
    "coqa": ("EleutherAI/coqa", None),
    "drop": ("EleutherAI/drop", None),
    "squadv2": ("rajpurkar/squad_v2", None),
    "translation/wmt14-fr-en": ("wmt/wmt14", "fr-en"),
    "translation/wmt14-en-fr": ("wmt/wmt14", "fr-en"),
    "translation/wmt16-de-en": ("wmt/wmt16", "de-en"),
    "translation/wmt16-en-de": ("wmt/wmt16", "de-en"),
    "translation/wmt16-ro-en": ("wmt/wmt16", "ro-en"),
    "translation/wmt16-en-ro": ("wmt/wmt16", "ro-en"),
    "lambada": ("EleutherAI/lambada_openai", "default"),
    "lambada/original": ("cimec/lambada", None),
    "wikitext-2": ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"),
    "summarization/cnn-dailymail": ("abisee/cnn_dailymail", "3.0.0"),
}
"""Tasks with their data set and its configuration."""

QUESTIONS = [
    ("who lit the first lamp on the pier", ["Ada Kent", "Ada"]),
    ("when did the ferry begin", ["1902"]),
    ("what is the harbour called", ["Lyra Bay", "the bay of Lyra"]),
]

STORIES = [
    (
        "s1",
        "Ada mended a net.\n\nThen she slept. ",
        [
            ("What did Ada mend?", "a net", ["net", "a fishing net", "her net"]),
            ("And then?", "slept", ["she slept"] * 3),
        ],
    ),
    ("s2", "Ben rowed to Orla.", [("Who rowed?", "Ben", ["Ben", "ben", "Ben rowed"])]),
    (
        "s3",
        "Cleo has three kites. One is red.",
        [
            ("How many kites has Cleo?", "three", ["3", "three kites", "three"]),
            ("Is one red?", "yes", ["Yes.", "yes", "it is"]),
            ("Is one blue?", "unknown", ["unknown", "no", "unknown"]),
        ],
    ),
]
"""Id, story, and turns: question, answer, the three additional answers of the evaluation split."""

SECTIONS = [
    ("Ada Kent", "Early life", "Ada was born in Lyra. CANNOTANSWER", [("Where was she born?", ["in Lyra", "Lyra"])]),
    ("Ben Holt", "Boats", "Ben built a boat. CANNOTANSWER", [("What did he build?", ["a boat"])]),
    (
        "Lyra Bay",
        "History",
        "A pier was built in 1902. It burnt. CANNOTANSWER",
        [("When was it built?", ["in 1902", "1902"]), ("By whom?", ["CANNOTANSWER", "CANNOTANSWER"])],
    ),
]

PARAGRAPHS: list[tuple[str, str, list[tuple[str, list[str]]]]] = [
    ("Lyra_Bay", "Lyra Bay has a pier.", [("What has Lyra Bay?", ["a pier", "pier"]), ("Who built it?", [])]),
    ("Lyra_Bay", "The pier is long.", [("How is the pier?", ["long"])]),
    ("Lyra_Bay", "Boats leave at six.", [("When do boats leave?", ["at six", "six"])]),
    ("Tarn", "Tarn sells wool in May.", [("What is sold?", ["wool"]), ("When?", ["in May", "May"])]),
    ("Tarn", "No road leads to Tarn.", [("What leads to Tarn?", [])]),
    ("Orla", "Orla lies by a lake.", [("Where is Orla?", ["by a lake"]), (" What is the lake called?", [])]),
]

SUMS: list[tuple[str, str, list[tuple[str, Sum, list[Sum]]]]] = [
    (
        "nfl_1",
        " Lyra led 7-3. Orla kicked 2 goals.",
        [
            ("How many goals?", ("2", [], {}), []),
            ("Who led?", ("", ["Lyra"], {}), []),
        ],
    ),
    (
        "history_2",
        "The pier burnt on 3 May 1902.",
        [("When?", ("", [], {"day": "3", "month": "May", "year": "1902"}), [])],
    ),
    (
        "history_3",
        "Ada and Ben rowed. Cleo sang.",
        [
            ("Who rowed?", ("", ["Ada", "Ben"], {}), [("", ["Ben", "Ada"], {}), ("", ["Ada"], {}), ("", [], {})]),
            ("How many sang?", ("1", [], {}), [("1", [], {}), ("", ["Cleo"], {})]),
        ],
    ),
]
"""Passage id, passage, and questions: text, answer (number, spans, date), validated answers."""

SENTENCES = {
    "fr": ["Le phare est vieux.", "La mer est calme = plate.", "Qui a allumé « la lampe » ?"],
    "de": ["Der Leuchtturm ist alt.", "Das Meer ist ruhig.", "Wer zündete „die Lampe“ an?"],
    "ro": ["Farul este vechi.", "Marea este liniștită.", "Cine a aprins lampa?"],
    "en": ["The lighthouse is old.", "The sea is calm.", 'Who lit "the lamp"?'],
}

PASSAGES = [
    'Ada lit the lamp. "It is dark," said',
    "The ferry came late, so Ben slept on the",
    "Cleo flew her kite\n\nUp it",
]
LAST_WORDS = [" Ben", " pier", "\nwent"]
PLAIN_PASSAGES = ["ada lit the lamp . `` it is dark , '' said ben", "the ferry came late , so ben slept on the pier"]

ARTICLES = [
    " = Lyra Bay = \n \n Lyra Bay has a pier , built in 1 @,@ 902 . \n \n = = Pier = = \n \n It is long . \n ",
    " = Orla = \n \n Orla lies by a lake . \n ",
]

STORIES_OF_NEWS = [
    ("a1", "LYRA (News) -- The pier burnt. Nobody was hurt. ", "Pier burns .\nNobody hurt ."),
    ("a2", "ORLA (News) -- The lake froze.", "Lake freezes ."),
    (
        "a4",
        "ORLA (News) -- The ferry to Lyra will run every hour from May on, the harbour office said on Monday. "
        "So far it has run four times a day. Tickets stay at two crowns.",
        "Ferry to run every hour from May .\nTickets stay at two crowns .",
    ),
    (
        "a5",
        "LYRA (News) -- A whale swam into the bay on Sunday and left it with the next tide. Some 300 people watched "
        'from the pier. "It looked at us as long as we looked at it," a fisherman said.',
        "Whale swims into the bay and leaves with the tide .\nSome 300 people watch from the pier .",
    ),
    (
        "a6",
        "ORLA (News) -- The library of Orla has got back a book that was borrowed 61 years ago. It lay in an attic. "
        "The library will ask for no fine.",
        "Book comes back to library after 61 years .\nThere is no fine .",
    ),
    ("a3", "LYRA (News) -- A new pier opens.", "New pier opens ."),
    (
        "a7",
        "LYRA (News) -- The lighthouse will be painted red again after a vote on Friday. Of 412 people 230 "
        "wanted it red, the rest white. The painters begin in June.",
        "Town votes for a red lighthouse .\nPainters begin in June .",
    ),
    (
        "a8",
        "ORLA (News) -- Snow closed the road over the pass on Tuesday. Nine cars turned back. The road is to open "
        "on Thursday, if the wind falls.",
        "Snow closes the road over the pass .\nIt is to open on Thursday .",
    ),
    (
        "a9",
        "LYRA (News) -- A school class has counted the gulls of the harbour: there are 1,214, a hundred "
        "fewer than last year. The pupils will count again in a year.",
        "Pupils count 1,214 gulls .\nThere are a hundred fewer than last year .",
    ),
]
STORIES_OF_NEWS_SHOWN = 5

TREEBANK = [
    "the price of <unk> rose N points to N crowns a share",
    "the company did n't say why but a spokesman for <unk> & sons said sales were N N above last year 's",
    "it 's a good year for the harbour he said",
    "analysts had expected about $ N million after the fishermen 's strike in may",
    "mr. <unk> who runs the N ferries said he would n't sell",
    "trading was light and closed at N down from N on monday",
]


def write_text_release(directory: Path) -> Path:
    """Lay the records out as the releases do."""
    for name, content in release_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return directory


def release_files() -> dict[str, str]:
    """Contents by name below the data directory: mostly two demonstrations and one evaluated record."""
    nq = [{"question": question, "answer": answers} for question, answers in QUESTIONS]
    web = [{"qId": f"w{n}", "answers": answers, "qText": question} for n, (question, answers) in enumerate(QUESTIONS)]
    trivia = [_official_trivia(number) for number in range(3)]
    files = {
        "nq_open/NQ-open.train.jsonl": _lines(nq[:2]),
        "nq_open/NQ-open.dev.jsonl": _lines(nq[2:]),
        "webquestions/trainmodel.json": json.dumps(web[:2]),
        "webquestions/test.json": json.dumps(web[2:]),
        "triviaqa/qa/wikipedia-train.json": json.dumps({"Data": trivia[:2], "Domain": "Wikipedia"}),
        "triviaqa/qa/wikipedia-dev.json": json.dumps({"Data": trivia[2:], "Domain": "Wikipedia"}),
        "coqa/coqa-train-v1.0.json": _data([_story(*story, further=False) for story in STORIES[:2]]),
        "coqa/coqa-dev-v1.0.json": _data([_story(*story, further=True) for story in STORIES[2:]]),
        "quac/train_v0.2.json": _data([_section(number) for number in (0, 1)]),
        "quac/val_v0.2.json": _data([_section(2)]),
        "squad/train-v2.0.json": _data(_squad(PARAGRAPHS[:-1])),
        "squad/dev-v2.0.json": _data(_squad(PARAGRAPHS[-1:])),
        "drop/drop_dataset_train.json": json.dumps(dict(_official_drop(*each) for each in SUMS[:2])),
        "drop/drop_dataset_dev.json": json.dumps(dict(_official_drop(*each) for each in SUMS[2:])),
        "lambada/lambada_test.jsonl": _lines([{"text": a + b} for a, b in zip(PASSAGES, LAST_WORDS, strict=True)]),
        "lambada/lambada_development_plain_text.txt": "".join(f"{text}\n" for text in PLAIN_PASSAGES),
        "lambada/lambada_test_plain_text.txt": "".join(f"{text}\n" for text in PLAIN_PASSAGES[:1]),
        "wikitext-2/valid.txt": " \n" + ARTICLES[0] + "\n",
        "wikitext-2/test.txt": " \n" + "\n".join(ARTICLES) + "\n",
        "ptb/ptb.valid.txt": " no it was n't \n",
        "ptb/ptb.test.txt": "".join(f" {line} \n" for line in TREEBANK),
    }
    stories = [
        {"id": name, "article": article, "highlights": highlights} for name, article, highlights in STORIES_OF_NEWS
    ]
    train, test = stories[:STORIES_OF_NEWS_SHOWN], stories[STORIES_OF_NEWS_SHOWN:]
    files |= {"cnn_dailymail/train.jsonl": _lines(train), "cnn_dailymail/test.jsonl": _lines(test)}
    for other, before, now in [
        ("fr", "newstest2013", "newstest2014"),
        ("de", "newstest2015", "newstest2016"),
        ("ro", "newsdev2016", "newstest2016"),
    ]:
        for language in (other, "en"):
            texts = SENTENCES[language]
            files[f"wmt/en-{other}/{before}.{language}"] = "".join(f"{text}\n" for text in texts[:2])
            files[f"wmt/en-{other}/{now}.{language}"] = "".join(f"{text}\n" for text in texts[2:])
    return files


def hub_rows(path: str, name: str | None, split: str) -> list[Record]:
    """The rows of a data set of the Hub, in the columns of its card."""
    if path in ("wmt/wmt14", "wmt/wmt16"):
        assert name is not None
        pairs = [{language: SENTENCES[language][n] for language in name.split("-")} for n in range(3)]
        return [{"translation": pair} for pair in (pairs[:2] if split == "validation" else pairs[2:])]
    task = next(task for task, (where, _) in ON_THE_HUB.items() if where == path)
    return dict(zip(SPLITS[task], _HUB[path, name], strict=True))[split]


def _lines(records: list[Record]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _data(records: list[Record]) -> str:
    return json.dumps({"version": "1.0", "data": records}, ensure_ascii=False)


def _official_trivia(number: int) -> Record:
    question, (value, *aliases) = QUESTIONS[number]
    answer = {"Value": value, "Aliases": [*aliases, value, ""], "NormalizedValue": "x", "NormalizedAliases": ["x"]}
    return {"Question": f"{question}?", "QuestionId": f"q{number}", "Answer": answer, "EntityPages": []}


def _hub_trivia(number: int) -> Record:
    question, (value, *aliases) = QUESTIONS[number]
    answer = {"value": value, "aliases": [*aliases, value, ""], "normalized_value": "x", "normalized_aliases": ["x"]}
    return {"question": f"{question}?", "question_id": f"q{number}", "answer": answer, "entity_pages": {"title": []}}


def _story(name: str, text: str, turns: list[tuple[str, str, list[str]]], *, further: bool) -> Record:
    def rows(texts: list[str]) -> list[Record]:
        return [{"input_text": text, "span_text": "", "turn_id": turn} for turn, text in enumerate(texts, start=1)]

    questions = [{"input_text": question, "turn_id": turn} for turn, (question, _, _) in enumerate(turns, start=1)]
    record: Record = {"id": name, "source": "none", "story": text, "questions": questions}
    record["answers"] = rows([answer for _, answer, _ in turns])
    if further:
        record["additional_answers"] = {str(n): rows([others[n] for _, _, others in turns]) for n in range(3)}
    return record


def _hub_story(name: str, text: str, turns: list[tuple[str, str, list[str]]], *, further: bool) -> Record:
    record = _story(name, text, turns, further=further)
    additional = record.get("additional_answers", {"0": [], "1": [], "2": []})
    columns: Record = {"input_text": [], "span_text": [], "turn_id": []}
    return {
        **record,
        "questions": _columns(record["questions"], columns),
        "answers": _columns(record["answers"], columns),
        "additional_answers": {number: _columns(rows, columns) for number, rows in additional.items()},
    }


def _columns(rows: list[Record], empty: Record) -> Record:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else dict(empty)


def _section(number: int) -> Record:
    title, section, passage, turns = SECTIONS[number]
    name = f"C_{number}"
    questions = [
        {
            "id": f"{name}_q#{turn}",
            "question": question,
            "answers": [{"text": text, "answer_start": 0} for text in answers],
            "orig_answer": {"text": answers[0], "answer_start": 0},
            "followup": "y",
            "yesno": "x",
        }
        for turn, (question, answers) in enumerate(turns)
    ]
    paragraph = {"context": passage, "id": name, "qas": questions}
    return {"title": title, "section_title": section, "background": "None.", "paragraphs": [paragraph]}


def _squad(paragraphs: list[tuple[str, str, list[tuple[str, list[str]]]]]) -> list[Record]:
    articles: dict[str, list[Record]] = {}
    for title, passage, questions in paragraphs:
        rows = [
            {
                "id": _squad_id(passage, number),
                "question": question,
                "answers": [{"text": text, "answer_start": 0} for text in answers],
                "is_impossible": not answers,
            }
            for number, (question, answers) in enumerate(questions)
        ]
        articles.setdefault(title, []).append({"context": passage, "qas": rows})
    return [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]


def _hub_squad(paragraphs: list[tuple[str, str, list[tuple[str, list[str]]]]]) -> list[Record]:
    return [
        {
            "id": _squad_id(passage, number),
            "title": title,
            "context": passage,
            "question": question,
            "answers": {"text": answers, "answer_start": [0] * len(answers)},
        }
        for title, passage, questions in paragraphs
        for number, (question, answers) in enumerate(questions)
    ]


def _squad_id(passage: str, number: int) -> str:
    return f"{passage[:8]}{number}"


def _answer(given: Sum) -> Record:
    number, spans, date = given
    return {"number": number, "spans": spans, "date": {"day": "", "month": "", "year": ""} | date}


def _official_drop(name: str, passage: str, questions: list[tuple[str, Sum, list[Sum]]]) -> tuple[str, Record]:
    pairs = []
    for number, (question, answer, validated) in enumerate(questions):
        pair = {"question": question, "answer": _answer(answer), "query_id": f"{name}-{number}"}
        pairs.append(pair | {"validated_answers": [_answer(each) for each in validated]} if validated else pair)
    return name, {"passage": passage, "qa_pairs": pairs}


def _hub_drop(name: str, passage: str, questions: list[tuple[str, Sum, list[Sum]]]) -> list[Record]:
    empty: Record = {"number": [], "spans": [], "date": []}
    return [
        {
            "section_id": name,
            "query_id": f"{name}-{number}",
            "passage": passage,
            "question": question,
            "answer": _answer(answer),
            "validated_answers": _columns([_answer(each) for each in validated], empty),
        }
        for number, (question, answer, validated) in enumerate(questions)
    ]


_HUB: dict[tuple[str, str | None], tuple[list[Record], list[Record]]] = {
    ("google-research-datasets/nq_open", None): (
        [{"question": question, "answer": answers} for question, answers in QUESTIONS[:2]],
        [{"question": question, "answer": answers} for question, answers in QUESTIONS[2:]],
    ),
    ("stanfordnlp/web_questions", None): (
        [{"url": "none", "question": question, "answers": answers} for question, answers in QUESTIONS[:2]],
        [{"url": "none", "question": question, "answers": answers} for question, answers in QUESTIONS[2:]],
    ),
    ("mandarjoshi/trivia_qa", "rc.wikipedia.nocontext"): ([_hub_trivia(0), _hub_trivia(1)], [_hub_trivia(2)]),
    ("EleutherAI/coqa", None): (
        [_hub_story(*story, further=False) for story in STORIES[:2]],
        [_hub_story(*story, further=True) for story in STORIES[2:]],
    ),
    ("rajpurkar/squad_v2", None): (_hub_squad(PARAGRAPHS[:-1]), _hub_squad(PARAGRAPHS[-1:])),
    ("EleutherAI/drop", None): (
        [row for each in SUMS[:2] for row in _hub_drop(*each)],
        [row for each in SUMS[2:] for row in _hub_drop(*each)],
    ),
    ("EleutherAI/lambada_openai", "default"): (
        [],
        [{"text": before + word} for before, word in zip(PASSAGES, LAST_WORDS, strict=True)],
    ),
    ("cimec/lambada", None): (
        [{"text": text, "domain": "none"} for text in PLAIN_PASSAGES],
        [{"text": text, "domain": "none"} for text in PLAIN_PASSAGES[:1]],
    ),
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"): (
        [{"page": ARTICLES[0]}],
        [{"page": article} for article in ARTICLES],
    ),
    ("abisee/cnn_dailymail", "3.0.0"): (
        [
            {"id": n, "article": text, "highlights": summary}
            for n, text, summary in STORIES_OF_NEWS[:STORIES_OF_NEWS_SHOWN]
        ],
        [
            {"id": n, "article": text, "highlights": summary}
            for n, text, summary in STORIES_OF_NEWS[STORIES_OF_NEWS_SHOWN:]
        ],
    ),
}
"""By path and configuration: the rows of the demonstrations and of the evaluated split."""
