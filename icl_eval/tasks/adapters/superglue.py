"""MultiRC, ReCoRD and WSC of SuperGLUE, from the nested release or flat rows of the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from icl_eval.tasks.files import Record


def multirc(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A record per answer, with all answers of its question, so that a demonstration can show all of them."""
    for question in _multirc_questions(records):
        answers = question.pop("rows")
        for number, text, label in answers:
            yield {
                **question,
                "id": f"{question['group']}-{number}",
                "answer": text,
                "answers": [{"text": each, "label": bool(value)} for _, each, value in answers],
                "label": label,
            }


def _multirc_questions(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Questions with (number, text, label) for each answer, from the nested release or rows per answer of the Hub."""
    flat: dict[str, dict[str, Any]] = {}
    for record in records:
        if isinstance(record.get("passage"), Mapping):
            for question in record["passage"]["questions"]:
                rows = [(answer["idx"], answer["text"], answer.get("label", -1)) for answer in question["answers"]]
                yield _question(record["idx"], question["idx"], record["passage"]["text"], question["question"], rows)
            continue
        at = record["idx"]
        entry = _question(at["paragraph"], at["question"], record["paragraph"], record["question"], [])
        row = (at["answer"], record["answer"], record["label"])
        flat.setdefault(entry["group"], entry)["rows"].append(row)
    yield from flat.values()


def _question(
    paragraph: int, question: int, passage: str, text: str, rows: list[tuple[int, str, int]]
) -> dict[str, Any]:
    group = f"{paragraph}-{question}"
    return {"cluster": str(paragraph), "group": group, "passage": passage, "question": text, "rows": rows}


def record(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A record per query, with the distinct entities in the order of their first mention as options."""
    for raw in records:
        if isinstance(raw.get("passage"), Mapping):
            text = raw["passage"]["text"]
            names = [text[span["start"] : span["end"] + 1] for span in raw["passage"]["entities"]]
            for query in raw["qas"]:
                answers = [answer["text"] for answer in query.get("answers", [])]
                yield _cloze(raw["idx"], query["idx"], text, query["query"], names, answers)
        else:
            at = raw["idx"]
            yield _cloze(at["passage"], at["query"], raw["passage"], raw["query"], raw["entities"], raw["answers"])


def _cloze(passage: int, number: int, text: str, query: str, names: list[str], answers: list[str]) -> dict[str, Any]:
    body, *highlights = re.split(r"\n@highlight\n", text)
    entities = sorted(set(names), key=lambda name: (text.find(name), name))
    return {
        "id": f"{passage}-{number}",
        "cluster": str(passage),
        "passage": body.strip(),
        "highlights": [highlight.strip() for highlight in highlights],
        "query": query,
        "entities": entities,
        "label": [index for index, entity in enumerate(entities) if entity in answers],
    }


def wsc(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The text split at the pronoun; positions of spans are counted in words separated by white space."""
    for raw in records:
        span, words = raw.get("target") or raw, raw["text"].split()
        noun, pronoun = (_as_written(span[name], " ".join(words)) for name in ("span1_text", "span2_text"))
        before, after = _part(words, pronoun, span["span2_index"])
        yield {
            "idx": raw["idx"],
            "noun": noun,
            "pronoun": pronoun,
            "before": before,
            "after": after,
            "label": raw.get("label", -1),
        }


def _as_written(phrase: str, text: str) -> str:
    """A span as it is written in the text; some differ in the release by a capital, a full stop or a line break."""
    plain = " ".join(phrase.split()).removesuffix(".")
    forms = (phrase, plain, plain[:1].lower() + plain[1:], plain[:1].upper() + plain[1:])
    return next((form for form in forms if form in text), phrase)


def _part(words: list[str], phrase: str, stated: int) -> tuple[str, str]:
    """The text before and after the occurrence of `phrase` nearest to a word index, since one record is off by one."""
    size = len(phrase.split())
    whole = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)")
    found = [(i, match) for i in range(len(words)) if (match := whole.search(" ".join(words[i : i + size])))]
    if not found:
        raise ValueError(f"the text does not contain {phrase!r}")
    start, match = min(found, key=lambda each: abs(each[0] - stated))
    before, after = match.string[: match.start()], match.string[match.end() :]
    return " ".join([*words[:start], before]), " ".join([after, *words[start + size :]])
