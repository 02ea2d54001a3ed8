"""Questions with text answers: CoQA, QuAC, SQuAD and DROP about a passage, TriviaQA and TruthfulQA without one.

They are read from nested releases or from rows of the Hub. Every record is one question. `history` contains the earlier
questions about the passage with their first reference answers. `passage_id` identifies the passage.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from icl_eval.tasks.files import Record

UNANSWERABLE = "unanswerable"  # answer to questions of SQuAD 2.0 without an answer; the release has no text for it
SPAN_SEPARATOR = " | "  # separates the spans of an answer in DROP

Question = tuple[str, str, list[str]]  # id, text, acceptable answers


def coqa(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Conversations about a story. Additional answers of the evaluation split are further references."""
    for raw in records:
        further = [_by_turn(rows) for _, rows in sorted((raw.get("additional_answers") or {}).items())]
        first = _by_turn(raw["answers"])
        questions = []
        for question in _rows(raw["questions"]):
            turn = question["turn_id"]
            answers = [first[turn], *(each[turn] for each in further if each)]
            questions.append((f"{raw['id']}-{turn}", question["input_text"], answers))
        yield from _questions({"passage": raw["story"].strip()}, questions, raw["id"])


def quac(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Dialogues about a section of an article. `CANNOTANSWER`, the end of every passage, may be an answer."""
    for article in records:
        for paragraph in article["paragraphs"]:
            about = {
                "title": article["title"],
                "section": article.get("section_title", ""),
                "passage": paragraph["context"],
            }
            questions = [
                (each["id"], each["question"], [answer["text"] for answer in each["answers"]])
                for each in paragraph["qas"]
            ]
            yield from _questions(about, questions, paragraph["id"])


def squad(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """SQuAD 1.1, 2.0 and XQuAD, nested by article or as rows. Questions without answers get `unanswerable`."""
    passages: dict[tuple[str, str], list[Question]] = {}
    for raw in records:
        if "paragraphs" in raw:
            for paragraph in raw["paragraphs"]:
                rows = [
                    (each["id"], each["question"], [answer["text"] for answer in each["answers"]])
                    for each in paragraph["qas"]
                ]
                passages.setdefault((raw["title"], paragraph["context"]), []).extend(rows)
        else:
            row = (raw["id"], raw["question"], list(raw["answers"]["text"]))
            title = raw.get("title", "")  # XQuAD on the Hub has no titles
            passages.setdefault((title, raw["context"]), []).append(row)
    for (title, passage), questions in passages.items():
        answered = [(name, text.strip(), answers or [UNANSWERABLE]) for name, text, answers in questions]
        yield from _questions({"title": title, "passage": passage}, answered)


def drop(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """DROP, by passage, as rows, or as prompts with references joined by bars.

    An answer is a number, a date as day, month and year, or spans separated by ` | `. In prompts, the spans of an
    answer are joined by words and cannot be separated.
    """
    passages: dict[str, list[Question]] = {}
    for raw in records:
        for passage, name, question, answers in _drop_questions(raw):
            passages.setdefault(passage.strip(), []).append((name, question.strip(), answers))
    for passage, questions in passages.items():
        names = Counter[str]()
        for number, (name, question, answers) in enumerate(questions):  # prompts have no ids, and some are repeated
            names[name] += 1
            questions[number] = (f"{name}-{names[name]}" if names[name] > 1 else name, question, answers)
        yield from _questions({"passage": passage}, questions)


def _drop_questions(raw: Record) -> Iterator[tuple[str, str, str, list[str]]]:
    if "qa_pairs" in raw:
        for pair in raw["qa_pairs"]:
            answers = [pair["answer"], *pair.get("validated_answers", [])]
            yield raw["passage"], pair["query_id"], pair["question"], _drop_answers(answers)
    elif "query_id" in raw:
        answers = [raw["answer"], *_rows(raw["validated_answers"])]
        yield raw["passage"], raw["query_id"], raw["question"], _drop_answers(answers)
    else:
        passage, question = raw["context"].removeprefix("Passage: ").removesuffix("\nAnswer:").split("\nQuestion: ")
        yield passage, _key(passage, question), question, raw["ref_text"].split("|")


def _drop_answers(answers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The answers as texts, without empty ones, as in the official script."""
    texts = []
    for answer in answers:
        date = " ".join(filter(None, (answer["date"].get(part, "") for part in ("day", "month", "year"))))
        texts.append(answer["number"] or SPAN_SEPARATOR.join(answer["spans"]) or date)
    return [text for text in texts if text.strip()]


def _questions(about: dict[str, str], questions: list[Question], passage_id: str = "") -> Iterator[dict[str, Any]]:
    history: list[dict[str, str]] = []
    for name, text, answers in questions:
        yield {
            "id": name,
            "passage_id": passage_id or _key(*about.values()),
            **about,
            "history": list(history),
            "question": text,
            "answers": answers,
        }
        history.append({"question": text, "answer": answers[0]})


def _by_turn(rows: Any) -> dict[int, str]:
    return {row["turn_id"]: row["input_text"] for row in _rows(rows)}


def _rows(value: Any) -> list[dict[str, Any]]:
    """A list of mappings; the Hub can have a mapping of lists of equal length instead."""
    if not isinstance(value, Mapping):
        return list(value)
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _key(*texts: str) -> str:
    return hashlib.blake2b("\x1f".join(texts).encode(), digest_size=8).hexdigest()


def triviaqa(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question, its answer and the aliases of the answer, from the release, the Hub, or prompts with aliases."""
    for raw in records:
        if "Answer" in raw:
            question, answer = raw["Question"], raw["Answer"]
            value, aliases = answer["Value"], answer["Aliases"]
        elif isinstance(raw["answer"], Mapping):
            question, value, aliases = raw["question"], raw["answer"]["value"], raw["answer"]["aliases"]
        else:
            question = raw["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
            value, aliases = raw["answer"], raw["aliases"]
        answers = [text for text in dict.fromkeys([value, *aliases]) if text.strip()]
        yield {"question": question.strip(), "answers": answers}


def truthfulqa(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question, and mappings of its answers to 1 (true) or 0 (false), which are two lists on the Hub."""
    for raw in records:
        yield {"question": raw["question"], **{name: _marks(raw[name]) for name in ("mc1_targets", "mc2_targets")}}


def _marks(targets: Mapping[str, Any]) -> dict[str, int]:
    if "choices" not in targets:
        return dict(targets)
    return dict(zip(targets["choices"], targets["labels"], strict=True))
