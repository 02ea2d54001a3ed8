"""Demonstrations selected by the certainty of the model: `--select mdl`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import ASKED, NAMES, PROMPT, SHOWN, parity, records

from icl_eval import Task, evaluate, explain
from icl_eval.demos import ORGANIZATIONS
from icl_eval.errors import RunError, WindowError
from icl_eval.runs.check import previews
from icl_eval.runs.evaluate import planned

from .folders import examples
from .moody import Moody


def task(queries: Iterable[int] = ASKED, **changes: Any) -> Task:
    return parity(queries, normalization="sum", **changes)


def entropy(lm: Moody, demonstrations: Sequence[str], query: int) -> float:
    """Of the answers to a query after demonstrations, by hand."""
    solved = [f"Q: {n}\nA: {NAMES[int(n) % 2]}\n\n" for n in demonstrations]
    weights = [math.exp(lm.logprob(f"{''.join(solved)}Q: {query}\nA: {name}")) for name in NAMES]
    return -sum(each / sum(weights) * math.log(each / sum(weights)) for each in weights)


def demonstrations_of(folder: Path, prompt: str = "inline") -> dict[tuple[str, int, int], list[str]]:
    """The demonstrations of each example, number of shots and seed."""
    lines = [(each, each["cell"]) for each in examples(folder)]
    return {
        (each["id"], cell["shots"], cell["seed"]): each["demonstrations"]
        for each, cell in lines
        if cell["prompt"] == prompt
    }


def test_each_query_has_the_organisation_with_the_lowest_entropy(tmp_path: Path) -> None:
    lm = Moody()
    evaluate(lm, task(select="mdl"), shots=[0, 1, 3], seeds=2, out=tmp_path)
    (prepared,) = planned(lm, task(select="mdl"), None, shots=3).prepared
    assert prepared.pool is not None
    queries = {each.id: each for each in prepared.examples}
    positions = set()
    for (id, shots, seed), found in demonstrations_of(tmp_path).items():
        drawn = [prepared.pool.draw(queries[id], shots, seed, index) for index in range(ORGANIZATIONS if shots else 1)]
        texts = [[each.id for each in reversed(demonstrations)] for demonstrations in drawn]
        assert found == min(texts, key=lambda text: entropy(lm, text, int(id)))
        positions.add(texts.index(found))

    assert len(positions) > 5
    assert {shots for _, shots, _ in demonstrations_of(tmp_path)} == {0, 1, 3}


def test_the_selection_does_not_see_the_right_answer(tmp_path: Path) -> None:
    wrong = [{**each, "label": 1 - each["label"]} for each in records(ASKED)]
    others = Task.from_records(
        "parity",
        evaluation=wrong,
        demonstrations=records(SHOWN),
        prompt=PROMPT,
        options=NAMES,
        id="id",
        normalization="sum",
        select="mdl",
    )
    for name, each in (("right", task(select="mdl")), ("wrong", others)):
        evaluate(Moody(), each, shots=2, out=tmp_path / name)

    assert demonstrations_of(tmp_path / "right") == demonstrations_of(tmp_path / "wrong")


def test_variants_have_the_same_demonstrations_and_cost_no_further_choice(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": 3, "select": ["random", "mdl"]}
    alone, lm = Moody(), Moody()
    evaluate(alone, task(), order="drawn", out=tmp_path / "alone", **options)
    found = evaluate(
        lm, task(), labels=["gold", "flipped"], order=["drawn", "reversed"], out=tmp_path / "all", **options
    )

    plain = demonstrations_of(tmp_path / "alone", "inline~select=mdl")
    assert {score.prompt: score.draw for score in found.scores if "mdl" in score.prompt and not score.variants} == {
        "inline~select=mdl": "mdl",
        "inline~select=mdl,order=reversed": "mdl-reversed",
        "inline~select=mdl,labels=flipped": "mdl-labels:flipped",
        "inline~select=mdl,labels=flipped,order=reversed": "mdl-reversed-labels:flipped",
    }
    for name in ("inline~select=mdl,labels=flipped", "inline~select=mdl,order=reversed"):
        assert {key: sorted(ids) for key, ids in demonstrations_of(tmp_path / "all", name).items()} == {
            key: sorted(ids) for key, ids in plain.items()
        }
    assert lm.answered - alone.answered <= 6 * 2 * len(ASKED)  # six more prompts of each query


def test_the_plan_counts_every_organisation(tmp_path: Path) -> None:
    for options in ({"select": "mdl"}, {"select": "mdl", "labels": ["gold", "flipped"]}):
        lm = Moody()
        chosen: Any = {"shots": [0, 2], "calibrate": "contextual", **options}
        work = explain(lm, task(), **chosen).workload
        evaluate(lm, task(), **chosen)

        assert work.requests - work.repeated == pytest.approx(lm.answered, rel=0.05)  # some are chosen, not the first


def test_a_stopping_rule_ends_the_choices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_eval.analysis.stopping.BLOCK", 10)
    lm, many = Moody(), range(200)
    evaluate(lm, task(many, select="mdl"), shots=2, until=0.3, out=tmp_path)

    count = len(examples(tmp_path))
    assert 10 <= count < 200
    assert lm.answered <= count * 2 * ORGANIZATIONS + 2
    whole = tmp_path / "whole"
    evaluate(Moody(), task(many, select="mdl"), shots=2, limit=count, out=whole)
    assert demonstrations_of(whole) == demonstrations_of(tmp_path)


def test_each_model_chooses_for_itself(tmp_path: Path) -> None:
    run = planned(Moody(name="one"), task(select="mdl"), None, shots=2)
    run.evaluate((), lambda _: lambda _: None)
    other = run.with_model(Moody(name="other"), None).evaluate((), lambda _: lambda _: None)

    assert other.scores == evaluate(Moody(name="other"), task(select="mdl"), shots=2).scores


def test_a_run_goes_on_with_its_choices(tmp_path: Path) -> None:
    whole = Moody()
    evaluate(whole, task(select="mdl"), shots=2, out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "answers.jsonl").write_bytes(b"".join(lines[:50]) + lines[50][:9])
    rest = Moody()
    evaluate(rest, task(select="mdl"), shots=2, out=tmp_path / "cut")

    assert rest.answered == whole.answered - 50
    for name in ("examples.jsonl", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_formats_are_searched_with_the_chosen_demonstrations(tmp_path: Path) -> None:
    found = evaluate(
        Moody(),
        task(select="mdl", prompt={"plain": "Number: {{ n }}\nName:"}),
        shots=2,
        formats=4,
        budget=40,
        prompts="plain",
        out=tmp_path,
    )

    names = [score.prompt for score in found.scores]
    assert len(names) > 1
    assert all(demonstrations_of(tmp_path, name) == demonstrations_of(tmp_path, "plain") for name in names)


def test_a_query_that_does_not_fit_is_one_error() -> None:
    with pytest.raises(WindowError, match="parity, example '0'"):
        evaluate(Moody(window=30), task(select="mdl"), shots=3, overflow="error")


def test_a_prompt_fails_alone_if_an_organisation_of_it_does_not_fit() -> None:
    long, others = {"text": "fox " * 99, "label": 1}, [{"text": f"cat {n}", "label": n % 2} for n in range(40)]
    foxes = Task.from_records(
        "foxes",
        evaluation=[{"text": "a fox", "label": 0}],
        demonstrations=[long, *others],
        prompt="{{ text }}",
        options=NAMES,
    )
    found = evaluate(Moody(window=60), foxes, shots=1, overflow="error", select=["random", "mdl"])

    assert [score.prompt for score in found.scores] == ["inline"]
    (failure,) = found.failures
    assert (failure.selection, "context length is 60" in failure.reason) == ("~select=mdl", True)


def test_a_task_without_options_cannot_be_selected_by_them() -> None:
    texts = parity(options=None, answer="text", references="n", decode={"max_tokens": 3})
    with pytest.raises(RunError, match="parity has no options, and `select: mdl` needs the model's probabilities"):
        evaluate(Moody(), texts, shots=1, select=["random", "mdl"])


def test_demonstrations_that_the_model_chooses_cannot_be_previewed() -> None:
    with pytest.raises(
        RunError, match="parity: with `select: mdl` the model selects demonstrations, so they are known only after"
    ):
        previews(parity(), "tiny", shots=1, select=["random", "mdl"])
