from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from toy_tasks import knowing, write, write_library

from icl_eval import Library, Result, evaluate
from icl_eval.analysis.averages import suite_score, task_weights
from icl_eval.errors import TaskError
from icl_eval.metrics import METRICS, Prediction, estimate
from icl_eval.tasks import SuiteDefinition

RIGHT = (0, 1, 2, 4, 5)  # 5 of 8; the pairs (0, 1) and (4, 5), 2 of 4


def suite(name: str, tasks: str, average: str = "macro") -> str:
    return f"suite: {name}\nabout: Several.\ntasks: [{tasks}]\naverage: {average}\n"


def run(root: Path, name: str, *, metrics: str = "accuracy") -> Result:
    path = root / "tasks/toy/pairs.yaml"
    path.write_text(path.read_text().replace("accuracy, group_exact_match", metrics))
    return evaluate(knowing(*RIGHT), name, shots=0, library=Library([root]), data=root / "data")


@pytest.mark.parametrize(
    ("metrics", "mean"),
    [
        ("accuracy, group_exact_match", 5 / 8),
        ("accuracy, group_exact_match]\nprimary: [group_exact_match", (5 / 8 + 2 / 4) / 2),
        ("accuracy, group_exact_match]\nprimary: [accuracy, group_exact_match", (5 / 8 + 9 / 16) / 2),
    ],
)
def test_average_is_of_the_primary_metrics(metrics: str, mean: float, tmp_path: Path) -> None:
    assert run(write_library(tmp_path), "toy", metrics=metrics).score("toy").value == pytest.approx(mean)


def test_micro_average_counts_every_example_alike(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(root, "tasks/toy.yaml", suite("toy", "toy/parity, toy/pairs", "micro"))
    rows = (root / "data/parity/val.jsonl").read_text().splitlines(keepends=True)
    (root / "data/parity/val.jsonl").write_text("".join(rows[6:]))
    found = run(root, "toy").score("toy")

    assert found.value == pytest.approx((0 + 5) / 10)
    assert (found.average, found.averaged) == ("micro", "accuracy of toy/parity, toy/pairs")
    assert "|micro mean of 2 tasks|" in found.signature


def test_a_suite_without_an_average_has_no_line(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(root, "tasks/toy.yaml", suite("toy", "toy/parity, toy/pairs", "false"))

    assert [line.task for line in run(root, "toy")] == ["toy/parity", "toy/pairs"]


def test_nested_suites_that_share_a_task_weigh_it_once(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(root, "tasks/outer.yaml", suite("outer", "toy, toy/parity"))
    result = run(root, "outer", metrics="group_exact_match")
    parity, pairs = (result.score(f"toy/{name}") for name in ("parity", "pairs"))

    assert [line.task for line in result] == ["toy/parity", "toy/pairs", "toy", "outer"]
    assert result.score("outer").value == pytest.approx(3 / 4 * parity.value + 1 / 4 * pairs.value)
    assert result.score("outer").standard_error == pytest.approx(
        math.hypot(3 / 4 * parity.standard_error, 1 / 4 * pairs.standard_error)
    )
    assert "outer is the macro average of accuracy of toy/parity; group_exact_match of toy/pairs" in result.table()


def test_weights_of_nested_suites() -> None:
    inner = SuiteDefinition(suite="inner", about="", tasks=["a", "b"])
    plain = SuiteDefinition(suite="plain", about="", tasks=["c", "a"], average=False)
    suites = {"inner": inner, "plain": plain}
    units = {"a": 10, "b": 20, "c": 70}

    macro = task_weights(SuiteDefinition(suite="o", about="", tasks=["inner", "plain"]), suites, units)
    micro = task_weights(SuiteDefinition(suite="o", about="", tasks=["inner", "plain"], average="micro"), suites, units)

    assert macro == pytest.approx({"a": (1 / 2 + 1) / 3, "b": 1 / 2 / 3, "c": 1 / 3})
    assert micro == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.7})


def test_suite_that_holds_itself_is_an_error_with_its_line(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(root, "tasks/toy.yaml", suite("toy", "toy/parity, outer"))
    write(root, "tasks/outer.yaml", suite("outer", "toy"))

    with pytest.raises(TaskError, match=rf"^{root / 'tasks/toy.yaml'}:3: the suite 'outer' contains itself$"):
        run(root, "outer")


def test_primary_metric_that_is_not_taken_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="`primary` is 'macro_f1', which is not among the `metrics`"):
        run(write_library(tmp_path), "toy/pairs", metrics="accuracy]\nprimary: [macro_f1")


def test_suite_of_ranked_and_generated_tasks_adds_up_what_was_cut_and_has_no_guess(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    for name, length in (("short", 1), ("long", 2)):
        write(
            root,
            f"tasks/toy/{name}.yaml",
            f"task: toy/{name}\nabout: Spell.\nanswer: text\ndata: {{local: {{validation: parity/val.jsonl}}}}\n"
            f"splits: {{evaluation: validation}}\nfields: {{n: n}}\nreferences: '{{{{ n }}}}'\n"
            f"decode: {{max_tokens: {length}, temperature: 1, samples: {length}}}\nprompts: [plain]\n",
        )
        write(root, f"prompts/toy/{name}/plain.jinja", "Spell {{ n }}:")
    write(root, "tasks/toy.yaml", suite("toy", "toy/parity, toy/short, toy/long"))
    found = run(root, "toy")
    parts = [found.score(f"toy/{name}") for name in ("short", "long")]

    assert found.score("toy/parity").random == 0.5
    assert found.score("toy").random is None
    assert (
        found.score("toy").hit_max_tokens
        == parts[0].hit_max_tokens + parts[1].hit_max_tokens
        > parts[1].hit_max_tokens
        > 0
    )


def test_an_average_adds_up_the_counts_of_its_tasks_and_has_the_shots_and_seeds_of_the_fullest(tmp_path: Path) -> None:
    line = run(write_library(tmp_path), "toy/parity").score("toy/parity")
    answers = [Prediction(str(index), ("x", "y"), (0,), index, str(index), str(index)) for index in range(2)]
    once, twice = (estimate(METRICS["accuracy"], [answers] * draws) for draws in (1, 2))
    members = {
        "a": [(once, replace(line, task="a", ties=1, empty=2, truncated=3, effective_shots=1.5))],
        "b": [
            (twice, replace(line, task="b", ties=4, empty=5, truncated=6, shots=7, effective_shots=6.5, seeds=(0, 1)))
        ],
    }
    both = SuiteDefinition.model_validate({"suite": "s", "about": "Two.", "tasks": ["a", "b"], "average": "macro"})
    found = suite_score(both, {}, members)

    assert found is not None
    assert (found[1].ties, found[1].empty, found[1].truncated) == (5, 7, 9)
    assert (found[1].shots, found[1].seeds, found[1].effective_shots) == (7, (0, 1), 4)
