"""Demonstrations among the candidates that a model helps to annotate: `--select vote-k`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import NAMES, PROMPT

from icl_eval import Task, evaluate, explain
from icl_eval.demos.selection import vote_k
from icl_eval.errors import IclEvalError, RunError
from icl_eval.models import GenerateRequest, TextSink
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.check import previews
from icl_eval.runs.evaluate import planned
from icl_eval.tasks import Example
from icl_eval.tasks.protocol import Protocol

from .folders import examples
from .moody import Moody

ASKED, SHOWN = range(8), range(100, 140)
TEXTS: dict[str, Any] = {"options": None, "answer": "text", "references": "n", "decode": {"max_tokens": 3}}


def records(numbers: Iterable[int], wrong: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Records whose texts share words."""
    words = {n: " ".join([str(n), *random.Random(n).sample(list("abcdefghijkl"), 4)]) for n in numbers}
    return [{"id": n, "n": words[n], "label": (n + (n in wrong)) % 2} for n in words]


def task(
    queries: Iterable[int] = ASKED, candidates: Iterable[int] = SHOWN, wrong: Iterable[int] = (), **changes: Any
) -> Task:
    given: dict[str, Any] = {"prompt": PROMPT, "options": NAMES, "id": "id", "select": "vote-k:12", **changes}
    return Task.from_records(
        "parity", evaluation=records(queries, wrong), demonstrations=records(candidates, wrong), **given
    )


def prepared(one: Task, **options: Any) -> PreparedTask:
    (found,) = planned(Moody(), one, None, **{"shots": 1, **options}).prepared
    return found


def drawn(folder: Path, prompt: str = "inline") -> dict[tuple[str, int, int], list[str]]:
    """The demonstrations of each example, number of shots and seed, the nearest first."""
    lines = [(each, each["cell"]) for each in examples(folder)]
    return {
        (each["id"], cell["shots"], cell["seed"]): each["demonstrations"][::-1]
        for each, cell in lines
        if cell["prompt"] == prompt
    }


def by_hand(lm: Moody, one: Task, seed: int = 0) -> list[str]:
    """The ids of twelve annotated candidates: the model answers all others after the two that are first by votes."""
    pool = prepared(one).pool
    assert pool is not None
    annotation, knn = pool.annotation(seed), pool.under(Protocol(select="knn"))
    others = {each.id for each in annotation.others}
    confidence = {}
    for index, query in enumerate(annotation.examples):
        if query.id in others:
            drawn = knn.draw(query, len(pool.candidates) - 1, seed)
            solved = [demonstration_of(each, one) for each in reversed(drawn) if each.id not in others]
            prompt = "".join([*solved, f"Q: {query.fields['n']}\nA:"])
            if one.definition.answer == "text":
                confidence[index] = lm.logprob(prompt) / lm.length(prompt)
            else:
                confidence[index] = max(lm.logprob(f"{prompt} {name}") / len(f" {name}") for name in NAMES)
    return [annotation.examples[index].id for index in vote_k(annotation.similarity, confidence, 12)]


def demonstration_of(example: Example, one: Task) -> str:
    answer = example.options[example.gold[0]] if one.definition.answer == "choice" else example.fields["n"]
    return f"Q: {example.fields['n']}\nA: {answer}\n\n"


@pytest.mark.parametrize("kind", [{}, TEXTS])
def test_each_query_has_the_nearest_of_the_annotated_candidates(kind: dict[str, Any], tmp_path: Path) -> None:
    lm, one = Moody(), task(**kind)
    evaluate(lm, one, shots=[0, 1, 3], out=tmp_path)
    annotated, queries = by_hand(lm, one), {each.id: each for each in prepared(one).examples}

    pool = prepared(one).pool
    assert pool is not None
    votes = [each.id for each in pool.under(Protocol(select="fast-vote-k")).draw(queries["0"], 12, 0)]
    assert annotated[:2] == votes[:2]
    assert {*annotated} != {*votes}
    assert len({*annotated}) == 12
    knn = pool.under(Protocol(select="knn"))
    for (id, shots, seed), found in drawn(tmp_path).items():
        near = [each.id for each in knn.draw(queries[id], len(SHOWN), seed) if each.id in annotated]
        assert found == near[:shots]


def test_candidates_are_answered_by_greedy_search() -> None:
    class Recorded(Moody):
        def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
            methods.update(each.decoding.method for each in requests)
            super().generate(requests, sink)

    methods = Counter[str]()
    sampled = {"decode": {"max_tokens": 3, "samples": 2, "temperature": 0.5}}
    evaluate(Recorded(), task(**TEXTS | sampled, metrics=["exact_match"]), shots=1)

    assert methods == {"greedy": len(SHOWN) - 2, "sample2-t0.5-p1": len(ASKED)}


def test_only_labels_of_annotated_candidates_are_used(tmp_path: Path) -> None:
    right = by_hand(Moody(), task())
    unused = {*SHOWN} - {*map(int, right)}
    evaluate(Moody(), task(), shots=2, out=tmp_path / "right")
    evaluate(Moody(), task(wrong={*ASKED, *unused}), shots=2, out=tmp_path / "wrong")
    evaluate(Moody(), task(wrong=[int(right[0])]), shots=2, out=tmp_path / "other")

    assert drawn(tmp_path / "right") == drawn(tmp_path / "wrong")
    assert drawn(tmp_path / "right") != drawn(tmp_path / "other")  # its label is in the prompts of all others


def test_a_seed_draws_the_candidates_if_there_are_more_than_the_stated_number(tmp_path: Path) -> None:
    one = task(select="vote-k:6of20")
    found = evaluate(Moody(), one, shots=[1, 6], seeds=2, out=tmp_path)
    sets = {seed: {id for (_, _, of), ids in drawn(tmp_path).items() for id in ids if of == seed} for seed in range(2)}

    assert [len(each) for each in sets.values()] == [6, 6]
    assert sets[0] != sets[1]
    pool = prepared(one).pool
    assert pool is not None
    for seed, ids in sets.items():
        assert len(pool.annotation(seed).examples) == 20
        assert ids <= {each.id for each in pool.annotation(seed).examples}
    assert {score.draw for score in found.scores} == {"vote-k:6of20-similar-last"}
    assert all("|vote-k:6of20-similar-last|" in score.signature for score in found.scores)
    with pytest.raises(RunError, match="--select vote-k:12of3000 selects the same demonstrations for every seed"):
        evaluate(Moody(), task(), shots=1, seeds=2, select="vote-k:12")


def test_variants_have_the_same_demonstrations_and_cost_no_further_annotation(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": 3, "select": ["random", "vote-k:12"], "seeds": 2}
    alone, lm = Moody(), Moody()
    evaluate(alone, task(), order="drawn", out=tmp_path / "alone", **options)
    found = evaluate(
        lm, task(), labels=["gold", "random"], order=["drawn", "reversed"], out=tmp_path / "all", **options
    )

    plain = drawn(tmp_path / "alone", "inline~select=vote-k:12of3000")
    assert {score.prompt: score.draw for score in found.scores if "vote" in score.prompt and not score.variants} == {
        "inline~select=vote-k:12of3000": "vote-k:12of3000",
        "inline~select=vote-k:12of3000,order=reversed": "vote-k:12of3000-reversed",
        "inline~select=vote-k:12of3000,labels=random": "vote-k:12of3000-labels:random",
        "inline~select=vote-k:12of3000,labels=random,order=reversed": "vote-k:12of3000-reversed-labels:random",
    }
    for change in ("labels=random", "order=reversed"):
        varied = drawn(tmp_path / "all", f"inline~select=vote-k:12of3000,{change}")
        assert {key: sorted(ids) for key, ids in varied.items() if key in plain} == {
            key: sorted(ids) for key, ids in plain.items()
        }
    assert lm.answered - alone.answered <= (3 + 3 + 2) * 2 * len(ASKED)  # further prompts of each query


def test_the_plan_counts_the_candidates_that_are_answered() -> None:
    for options in ({}, {"select": ["random", "vote-k:12"], "labels": ["gold", "flipped"]}):
        lm = Moody()
        chosen: Any = {"shots": [0, 2], "calibrate": "contextual", **options}
        ticks: list[int] = []
        work = explain(lm, task(), **chosen).workload

        def progress(total: int, ticks: list[int] = ticks) -> Any:
            ticks.append(-total)
            return ticks.append

        evaluate(lm, task(), progress=progress, **chosen)

        assert work.requests - work.repeated == pytest.approx(lm.answered, rel=0.05)  # others may be annotated
        assert sum(ticks) == 0


def test_calibrations_make_no_requests_for_candidates() -> None:
    plain, calibrated = (
        explain(Moody(), task(), shots=2, calibrate=names).workload.requests for names in ((), ("contextual",))
    )

    assert calibrated - plain == len(ASKED) * len(NAMES) * 3  # content-free inputs


def test_a_run_goes_on_with_its_annotation(tmp_path: Path) -> None:
    whole = Moody()
    evaluate(whole, task(), shots=2, out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "answers.jsonl").write_bytes(b"".join(lines[:30]) + lines[30][:9])
    rest = Moody()
    evaluate(rest, task(), shots=2, out=tmp_path / "cut")

    assert rest.answered == whole.answered - 30
    for name in ("examples.jsonl", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_stopping_rule_and_a_search_of_formats_use_the_annotated_candidates(tmp_path: Path) -> None:
    evaluate(Moody(), task(range(60)), shots=2, out=tmp_path / "all")
    evaluate(Moody(), task(range(60)), shots=2, until=0.4, out=tmp_path / "until")
    found = evaluate(Moody(), task(range(60)), shots=2, formats=4, budget=40, out=tmp_path / "formats")

    whole = drawn(tmp_path / "all")
    assert drawn(tmp_path / "until") == whole
    assert len({score.prompt for score in found.scores}) > 1
    assert all(drawn(tmp_path / "formats", score.prompt) == whole for score in found.scores)


def test_each_model_annotates_for_itself(tmp_path: Path) -> None:
    run = planned(Moody(name="one"), task(), None, shots=2)
    run.evaluate((), lambda _: lambda _: None)
    other = run.with_model(Moody(name="other"), None).evaluate((), lambda _: lambda _: None)

    assert other.scores == evaluate(Moody(name="other"), task(), shots=2).scores
    assert by_hand(Moody(name="one"), task()) != by_hand(Moody(name="other"), task())


def test_a_candidate_with_the_question_of_one_that_is_annotated_first_has_fewer_demonstrations(tmp_path: Path) -> None:
    twice = [*records(SHOWN), *({**each, "id": each["id"] + 1000} for each in records(SHOWN))]
    one = Task.from_records(
        "twice", evaluation=records(ASKED), demonstrations=twice, prompt=PROMPT, options=NAMES, select="vote-k:12"
    )
    evaluate(Moody(), one, shots=2, out=tmp_path)

    assert {len(ids) for ids in drawn(tmp_path).values()} == {2}


def test_a_prompt_fails_alone_if_a_candidate_does_not_fit() -> None:
    long, others = {"n": "fox " * 99, "label": 1}, [{"n": f"cat {n}", "label": n % 2} for n in range(40)]
    foxes = Task.from_records(
        "foxes", evaluation=[{"n": "a fox", "label": 0}], demonstrations=[long, *others], prompt=PROMPT, options=NAMES
    )
    found = evaluate(Moody(window=60), foxes, shots=1, select=["random", "vote-k:2"])

    assert [score.prompt for score in found.scores] == ["inline"]
    (failure,) = found.failures
    assert (failure.selection, "context length is 60" in failure.reason) == ("~select=vote-k:2of3000", True)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"select": "vote-k"}, {}, "parity: vote-k:100of3000 annotates 100 candidates, but there are 40; choose a"),
        ({}, {"shots": 13}, "parity: 13 demonstrations were requested, but vote-k:12of3000 annotates 12"),
        ({}, {"shots": 13, "select": ["random", "vote-k:12"]}, "requested, but vote-k:12of3000 annotates 12"),
        (
            {"options": None, "answer": "likelihood", "references": "n"},
            {},
            "parity only scores given texts, but `select: vote-k` needs answers of the model",
        ),
    ],
)
def test_what_cannot_be_annotated_is_an_error(changes: Any, options: Any, message: str) -> None:
    with pytest.raises(IclEvalError, match=message):
        evaluate(Moody(), task(**changes), **{"shots": 1, **options})


def test_annotated_demonstrations_cannot_be_previewed() -> None:
    with pytest.raises(RunError, match="parity: with `select: vote-k` the model selects demonstrations, so they are"):
        previews(task(select="random"), "tiny", shots=1, select=["random", "vote-k:12"])
