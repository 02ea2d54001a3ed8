"""Multiple-choice data sets: SAT analogies, HellaSwag, RACE, ARC, OpenBookQA and Winograd schemas.

SAT analogies are in Turney's text file: blocks of lines separated by blank lines, with comments after `#`. The WikiHow
half of HellaSwag has layout markers in its text, which some editions lack. RACE has one object per article in the
release, and one row per question on the Hub. ARC and OpenBookQA are nested in the release and have columns on the Hub.

Winograd schemas are texts split at the pronoun or blank, with the nouns in the form that fits there. Schemas come in
pairs that differ in a word and have opposite answers, so the twin of a query reveals its answer. Therefore, successive
schemas with a common noun are one cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from icl_eval.tasks.files import Record

LINES = 8  # of a block: source, pair in question, five pairs to choose from, letter of the right pair


def sat(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The pair in question, and the pairs to choose from in the form that completes the sentence."""
    lines = (record["text"].strip() for record in records)
    for filled, group in groupby((line for line in lines if not line.startswith("#")), key=bool):
        if not filled:
            continue
        block = list(group)
        if len(block) != LINES or block[-1].lower() not in tuple("abcde"):
            raise ValueError(
                f"a question must have {LINES} lines, the last one a letter from a to e, but this one is {block}"
            )
        stem, *choices = (line.split()[:2] for line in block[1:-1])
        yield {
            "first": stem[0],
            "second": stem[1],
            "choices": [f"{first} is to {second}" for first, second in choices],
            "label": "abcde".index(block[-1].lower()),
        }


MARKER = re.compile(r"\[(header|title|step|substeps)\]")
UNFINISHED = re.compile(r"([.!?][\"')]* )([a-z])(?=[^.!?]*$)")  # the first letter of an unfinished sentence


def hellaswag(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Texts without markers. The unfinished sentence, in lower case in the release, starts with a capital letter."""
    for raw in records:
        yield {
            "activity": _plain(raw["activity_label"]),
            "context": UNFINISHED.sub(lambda found: found[1] + found[2].upper(), _plain(raw["ctx"])),
            "endings": [_plain(ending) for ending in raw["endings"]],
            "label": raw["label"],
        }


def _plain(text: str) -> str:
    """The text with titles as sentences, and without other markers and repeated spaces."""
    return " ".join(MARKER.sub("", text.replace(" [title]", ". ")).split())


def race(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A record per question, with earlier questions of the article and their right answers as history."""
    for name, article in _articles(records).items():
        history: list[dict[str, str]] = []
        for number, (question, options, answer) in enumerate(article["questions"]):
            options, label = [option.strip() for option in options], "ABCD".index(answer)
            right = options[label]
            yield {
                "id": f"{name}-{number}",
                "source": name,
                "article": article["text"].strip(),
                "history": list(history),
                "question": question.strip(),
                "options": options,
                "label": label,
            }
            history.append({"question": question.strip(), "answer": right})


def _articles(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Articles by file name, with (question, options, answer) for each question."""
    found: dict[str, dict[str, Any]] = {}
    for raw in records:
        rows = (
            zip(raw["questions"], raw["options"], raw["answers"], strict=True)
            if "questions" in raw
            else [(raw["question"], raw["options"], raw["answer"])]
        )
        name = raw["id"] if "questions" in raw else raw["example_id"]
        found.setdefault(name, {"text": raw["article"], "questions": []})["questions"] += rows
    return found


def arc(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question, its choices, and the index of the answer, which is given as A to E or 1 to 5."""
    for raw in records:
        question = raw["question"] if "question" in raw else raw["question_stem"]
        if isinstance(question, Mapping):
            labels, texts = zip(*((each["label"], each["text"]) for each in question["choices"]), strict=True)
            question = question["stem"]
        else:
            labels, texts = raw["choices"]["label"], raw["choices"]["text"]
        if raw["answerKey"] not in labels:
            raise ValueError(f"the answer {raw['answerKey']!r} of {raw['id']} is not among {', '.join(labels)}")
        yield {
            "id": raw["id"],
            "question": question,
            "choices": list(texts),
            "label": list(labels).index(raw["answerKey"]),
        }


SCHEMAS = 273  # the collection grew later; only the first schemas are used
ARTICLES = ("a", "an", "the", "her", "his", "its", "my", "our", "their", "your")
POSSESSIVE = ("her", "his", "its", "my", "our", "their", "your")  # `her` is never an object among the 273


def winograd(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """WSC273, from the XML of the collection, or from texts of the Hub with the position of the pronoun."""
    yield from _clustered(map(_schema, islice(records, SCHEMAS)))


def winogrande(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Sentences split at the blank."""
    yield from _clustered(map(_blank, records))


def _schema(raw: Record) -> dict[str, Any]:
    if isinstance(raw["text"], Mapping):
        before, pronoun, after = (_words(raw["text"][part]) for part in ("txt1", "pron", "txt2"))
        names, letter = raw["answers"]["answer"], raw["correctAnswer"].strip().rstrip(".")
        label = "AB".index(letter)
    else:
        start, label, names = raw["pronoun_loc"], raw["label"], raw["options"]
        end = start + len(raw["pronoun"])
        before, pronoun, after = (_words(part) for part in (raw["text"][:start], raw["pronoun"], raw["text"][end:]))
    return {
        "before": f"{before} " if before else "",
        "pronoun": pronoun,
        "after": after if after.startswith((".", ",", ";", "!", "?")) else f" {after}",
        "nouns": [_in_place_of(pronoun, _words(name)) for name in names],
        "label": label,
    }


def _in_place_of(pronoun: str, noun: str) -> str:
    """The noun in the form that replaces the pronoun: possessive, and in lower case within a sentence."""
    first = noun.split()[0]
    if pronoun[0].islower() and first.lower() in ARTICLES:
        noun = noun[0].lower() + noun[1:]
    return f"{noun}'s" if pronoun.lower() in POSSESSIVE else noun


def _blank(raw: Record) -> dict[str, Any]:
    before, blank, after = raw["sentence"].partition("_")
    if not blank:
        raise ValueError(f"the sentence {raw['sentence']!r} has no blank")
    return {"before": before, "after": after, "nouns": [raw["option1"], raw["option2"]], "answer": raw["answer"]}


def _clustered(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records with a cluster, which is that of the previous record if they have a noun in common."""
    number, before = 0, set[str]()
    for record in records:
        nouns = _known(record["nouns"])
        number += not nouns & before
        before = nouns
        yield {**record, "cluster": str(number)}


def _known(nouns: Sequence[str]) -> set[str]:
    return {noun.lower().removesuffix("'s") for noun in nouns}


def _words(text: str) -> str:
    return " ".join(text.split())
