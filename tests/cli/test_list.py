from __future__ import annotations

from pathlib import Path

from .shell import IclEval


def test_list_names_every_task_suite_and_prompt(icl_eval: IclEval) -> None:
    said = icl_eval("list", "--include", ".")
    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines())

    assert (said.code, said.err) == (0, "")
    assert lines["toy"] == "suite of 2: Two toys."
    assert lines["toy/parity"] == "Is a number even? [2 shots; accuracy; prompts plain, chatty]"
    assert lines["toy/pairs"] == (
        "Are both numbers of a pair even? [2 shots; accuracy, group_exact_match; prompts plain, chatty]"
    )
    assert {"superglue", "superglue/rte", "superglue/multirc", "symbols"} <= set(lines)


def test_list_keeps_to_the_names_that_match(icl_eval: IclEval) -> None:
    said = icl_eval("list", "pair", "--include", ".")

    assert [line.split()[0] for line in said.out.splitlines()] == ["toy/pairs"]


def test_a_broken_file_is_named_and_the_others_are_still_listed(icl_eval: IclEval) -> None:
    path = Path("tasks/toy/pairs.yaml")
    path.write_text("task: [\n")
    said = icl_eval("list", "toy", "--include", ".")

    assert said.code == 2
    assert [line.split()[0] for line in said.out.splitlines()] == ["toy", "toy/parity"]
    assert said.err.startswith(f"icl-eval: {path.resolve()}:")
    assert said.err.count("\n") == 1
