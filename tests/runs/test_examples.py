from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import ASKED, parity

from icl_eval import Task, compare, evaluate, sweep
from icl_eval.errors import RunError
from icl_eval.models import ScoreRequest, Sink
from icl_eval.results.examples import read_examples
from icl_eval.results.outcomes import flips, outcomes
from icl_eval.results.prompt_texts import PromptTexts
from icl_eval.testing import FakeLM

from .folders import lines

QUERY = "{% block query %}Q: {{ n }}\nA:{% endblock %}"
LETTERS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


class Recorder(FakeLM):
    """A model that keeps every request, as text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.contexts: set[str] = set()

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        self.contexts |= {bytes([*request.tokens[: request.boundary]]).decode() for request in requests}
        super().score(requests, sink)


def kept(tmp_path: Path, lm: FakeLM, task: Task, **options: Any) -> Any:
    return evaluate(lm, task, out=tmp_path / "kept", **options)


def prompts_of(folder: Path) -> list[str]:
    texts = PromptTexts(folder)
    found = []
    for example in read_examples(folder / "examples.jsonl"):
        options = range(len(getattr(example, "names", [0])))
        found += [texts.prompt(example, option) for option in options]
    return found


@pytest.mark.parametrize(
    "task",
    [
        parity(),
        parity(order="reversed", draw="fixed"),
        parity(
            prompt={
                "n": "{% block instruction %}Is {{ n }} odd?{% endblock %}{% block query %}Q: {{ n }}\nA:{% endblock %}"
            }
        ),
        parity(
            prompt={"own": "{% block instruction %}Odd?{% endblock %}{% block query %}Q: {{ n }}\nA:{% endblock %}"}
        ),
        parity(
            prompt={
                "parts": "{% block query %}{{ n }} is{{ ' ' + option }}{% endblock %}{% block answer %}.{% endblock %}"
            }
        ),
    ],
    ids=["plain", "reversed", "instruction of a query", "instruction", "partial"],
)
@pytest.mark.parametrize("window", [2**20, 50])
def test_prompts_are_put_together_as_the_model_read_them(task: Task, window: int, tmp_path: Path) -> None:
    lm = Recorder(window=window)
    kept(tmp_path, lm, task, shots=[0, 1, 4], seeds=2)
    found = prompts_of(tmp_path / "kept")

    assert len(found) == len(ASKED) * 5 * 2  # options of each example in five cells
    assert set(found) <= lm.contexts
    assert {context for context in lm.contexts if any(str(n) in context for n in ASKED)} >= set(found)


def test_each_text_is_stored_once(tmp_path: Path) -> None:
    kept(tmp_path, FakeLM(), parity(), shots=[0, 1, 4], seeds=3)
    entries = lines(tmp_path / "kept" / "prompts.jsonl")
    named = [(each.get("query"), each.get("demonstration")) for each in entries]

    assert len(named) == len(set(named))
    assert {each["query"] for each in entries if "query" in each} == set(map(str, ASKED))


@pytest.mark.parametrize(
    "damage", ["{", '{"task":"parity","prompt":"inline","query":"0","texts":[1],"answers":["a"]}', "[]"]
)
def test_a_damaged_line_is_named(damage: str, tmp_path: Path) -> None:
    result = kept(tmp_path, FakeLM(), parity(), shots=0)
    file = tmp_path / "kept" / "prompts.jsonl"
    file.write_text(damage + "\n")

    with pytest.raises(
        RunError, match=r"prompts.jsonl:1: this line is damaged; run the same command again to write it"
    ):
        result.examples(prompts=True)
    file.unlink()
    with pytest.raises(RunError, match="the texts of the prompts cannot be read"):
        result.examples(prompts=True)


def test_a_data_frame_has_what_was_chosen_and_how_probable_it_was(tmp_path: Path) -> None:
    task = Task.from_records("letters", evaluation=LETTERS, prompt="{{ text }}:", options=["x", "yes"], id="text")
    result = kept(tmp_path, FakeLM({"a:": " x", "b:": " x"}), task, shots=0)
    frame = result.examples(prompts=True)
    stored = lines(tmp_path / "kept" / "examples.jsonl")

    assert frame["correct"].tolist() == [True, False]
    assert frame["chosen"].tolist() == ["x", "x"]
    assert frame["gold"].tolist() == [["x"], ["yes"]]
    assert frame["prompt_text"].tolist() == ["a:", "b:"]
    assert frame["correct"].mean() == result.score("letters").value
    for row, entry in zip(frame.to_dict("records"), stored, strict=True):
        sums = [math.fsum(option["logprobs"]) for option in entry["options"]]
        means = [total / len(option["logprobs"]) for total, option in zip(sums, entry["options"], strict=True)]
        for name, scores in (("p_sum", sums), ("p_token", means)):
            assert row[name] == pytest.approx([math.exp(s) / sum(map(math.exp, scores)) for s in scores])
        gold = entry["gold"][0]
        assert row["margin"] == pytest.approx(means[gold] - means[1 - gold])
        assert row["loss"] == pytest.approx(-math.log(row["p_token"][gold]))


def test_the_margin_of_several_right_options_is_that_of_the_best(tmp_path: Path) -> None:
    task = Task.from_records(
        "several", evaluation=[{"text": "a", "label": [0, 2]}], prompt="{{ text }}:", options=["b", "k", "t"]
    )
    (row,) = kept(tmp_path, FakeLM(), task, shots=0).examples().to_dict("records")

    assert row["margin"] == pytest.approx(math.log(max(row["p_token"][0], row["p_token"][2]) / row["p_token"][1]))
    assert row["p_token"][0] != pytest.approx(row["p_token"][2])


def test_tokens_are_stored_of_answers_with_several(tmp_path: Path) -> None:
    task = Task.from_records("letters", evaluation=LETTERS[:1], prompt="{{ text }}:", options=["x", "y"], id="text")
    kept(tmp_path, FakeLM(), task, shots=0)
    (example,) = read_examples(tmp_path / "kept" / "examples.jsonl")

    assert PromptTexts(tmp_path / "kept").tokens(example) == ((" ", "x"), (" ", "y"))


def test_an_example_that_cannot_be_judged_is_no_flip(tmp_path: Path) -> None:
    result = kept(tmp_path, FakeLM(), parity(), shots=0, limit=2)
    first, second = outcomes(tmp_path / "kept", result.manifest)
    here = [replace(first, correct=None), replace(second, correct=False)]
    there = [replace(first, correct=True), replace(second, correct=True)]

    assert flips(here, there, tmp_path) == here[1:]


def test_generated_texts_are_judged_by_the_first_metric_and_listed_with_the_extracted_text(tmp_path: Path) -> None:
    task = Task.from_records(
        "sums",
        evaluation=[{"q": "1+1", "a": "2"}, {"q": "2+2", "a": "4"}],
        prompt="{{ q }}=",
        answer="text",
        references="a",
        decode={"max_tokens": 8, "stop": ["."]},
        extract={"digit": [{"pattern": r"(\d)"}]},
        metrics=["exact_match"],
        id="q",
    )
    result = kept(tmp_path, FakeLM({"1+1=": " so 2.", "2+2=": " so 5."}), task, shots=0)
    frame = result.examples()

    assert frame["correct"].tolist() == [True, False]
    assert frame["value"].tolist() == [1.0, 0.0]
    assert [each["digit"] for (each,) in frame["extracted"]] == ["2", "5"]
    assert frame["gold"].tolist() == [["2"], ["4"]]


def test_a_text_is_right_only_with_the_full_score(tmp_path: Path) -> None:
    task = Task.from_records(
        "words",
        evaluation=[{"q": "1+1", "a": "two apples"}],
        prompt="{{ q }}=",
        answer="text",
        references="a",
        decode={"max_tokens": 8, "stop": ["."]},
        metrics=["squad_f1"],
    )
    frame = kept(tmp_path, FakeLM({"1+1=": " two."}), task, shots=0).examples()

    assert frame["value"].tolist() == pytest.approx([2 / 3])
    assert frame["correct"].tolist() == [False]


def test_a_run_that_was_not_kept_has_no_examples() -> None:
    with pytest.raises(RunError, match="give `out` or `keep`"):
        evaluate(FakeLM(), parity(), shots=0).examples()


def test_a_missing_pandas_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kept(tmp_path, FakeLM(), parity(), shots=0)
    monkeypatch.setitem(sys.modules, "pandas", None)

    for frame in (result.examples, result.to_frame):
        with pytest.raises(RunError, match="a data frame needs pandas, which is not installed: pip install pandas"):
            frame()


def test_representations_are_short_and_their_html_is_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\u202e"
    lm = FakeLM(name=hostile)
    task = parity()
    result = evaluate(lm, task, shots=[0, 1], out=tmp_path / "one")
    found = compare(tmp_path / "one", tmp_path / "one")
    swept = sweep([lm, FakeLM(name="other")], task, shots=0)

    for each in (result, found, swept, task):
        assert len(repr(each)) < 200
        text = each._repr_html_()
        assert text.count("<table>") == text.count("</table>") == 1
        assert "<script" not in text
        assert "\u202e" not in text
    assert repr(task) == "Task('parity', choice, prompts inline)"
    assert repr(result).startswith("Result(<script>")
    assert json.loads(result.table("json"))["model"] == hostile
