"""Reasoning before an answer: kept in the stored texts, left out of what is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval import Task, evaluate, rescore
from icl_eval.errors import IclEvalError
from icl_eval.models import Decoding
from icl_eval.results.examples import TextResult, read_examples
from icl_eval.testing import FakeLM

RECORDS = [{"n": str(n), "q": f"{n} + {n}?", "answer": str(2 * n)} for n in range(3)]
TEXTS = {
    "0 + 0?": "so:\n0 plus 0\n</think>\n\n0\n",
    "1 + 1?": "so:\n1 plus 1 is 2, not </think>\n3\n",
    "2 + 2?": "so:\n4\nor is it\n4\nor is it",
}


def task(**keys: Any) -> Task:
    decode = {"max_tokens": 34, "reasoning_end": "</think>", **keys.pop("decode", {})}
    given: dict[str, Any] = {"answer": "text", "references": "answer", "id": "n", "metrics": ["exact_match"], **keys}
    return Task.from_records("sums", evaluation=RECORDS, prompt="{{ q }}", decode=decode, **given)


def texts(folder: Path) -> list[str]:
    found = list(read_examples(folder / "examples.jsonl"))
    return [text for each in found if isinstance(each, TextResult) for text in each.generated]


def test_the_answer_follows_the_reasoning_and_unfinished_reasoning_is_counted(tmp_path: Path) -> None:
    result = evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "run")
    (score,) = result.scores

    assert score.value == pytest.approx(1 / 3)
    assert (score.unfinished, score.empty, score.hit_max_tokens) == (1, 0, 1)
    assert "1 text has no answer, as the reasoning does not end; scored as empty" in result.table()
    assert "-after(</think>)" in score.signature
    assert texts(tmp_path / "run")[:2] == ["so:\n0 plus 0\n</think>\n\n0", "so:\n1 plus 1 is 2, not </think>\n3"]


def test_stored_texts_are_scored_with_another_end_of_the_reasoning(tmp_path: Path) -> None:
    first_line = task(decode={"reasoning_end": None, "stop": []}, extract={"line": [{"before": "\n"}]})
    plain = evaluate(FakeLM(TEXTS), first_line, shots=0, out=tmp_path / "run")
    cut, comma, whole = (rescore(tmp_path / "run", reasoning_end=end) for end in ("</think>", ",", ""))

    assert [each.scores[0].unfinished for each in (plain, cut, comma, whole)] == [0, 1, 2, 0]
    assert [each.scores[0].value for each in (plain, cut, whole)] == [0, pytest.approx(1 / 3), 0]
    assert whole.scores[0].signature == plain.scores[0].signature != cut.scores[0].signature


def test_a_run_says_where_reasoning_ends_for_all_its_tasks() -> None:
    changed = evaluate(
        FakeLM(TEXTS), task(decode={"reasoning_end": None}), shots=0, decode={"reasoning_end": "</think>"}
    )

    assert [score.value for score in changed.scores] == [pytest.approx(1 / 3)]


def test_rules_get_the_answer_alone() -> None:
    (score,) = evaluate(FakeLM(TEXTS), task(extract={"number": ["last_number"]}), shots=0).scores

    assert score.value == pytest.approx(1 / 3)
    assert score.unextracted == 1


@given(st.text(alphabet="ab\n>", max_size=12), st.text(alphabet="ab\n>", max_size=12))
def test_a_stop_counts_only_in_the_answer_and_the_end_of_a_reply_everywhere(reasoning: str, answer: str) -> None:
    decoding = Decoding(9, ("\n",), reasoning_end="#", reply_end="!")
    text = f"{reasoning}#{answer}"
    end = decoding.end_of(text)

    assert decoding.end_of(reasoning) is None
    assert decoding.end_of(f"{reasoning}!") == len(reasoning)
    space = answer[: len(answer) - len(answer.lstrip())]
    assert text[:end] == f"{reasoning}#{space}{answer.lstrip().partition(chr(10))[0]}"


def test_bad_ends_of_reasoning_are_reported_in_one_sentence(tmp_path: Path) -> None:
    ranked = Task.from_records("r", evaluation=[{"gold": 0}], prompt="q", options=["a", "b"], gold="gold")
    evaluate(FakeLM(), ranked, shots=0, out=tmp_path / "run")

    for bad in ("", 3):
        with pytest.raises(IclEvalError, match=r"`decode\.reasoning_end`"):
            task(decode={"reasoning_end": bad})
    with pytest.raises(IclEvalError, match="`reasoning_end` extracts answers from generated texts, but r has none"):
        rescore(tmp_path / "run", reasoning_end="</think>")
