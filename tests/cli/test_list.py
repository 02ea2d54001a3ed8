from __future__ import annotations

from pathlib import Path

import pytest

from .shell import IclEval


def test_list_prints_every_task_suite_and_prompt(icl_eval: IclEval) -> None:
    result = icl_eval("list", "--include", ".")
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())

    assert (result.code, result.err) == (0, "")
    assert lines["toy"] == "suite of 2: Two toys."
    assert lines["toy/parity"] == "Is a number even? [2 shots; accuracy; prompts plain, chatty]"
    assert lines["toy/pairs"] == (
        "Are both numbers of a pair even? [2 shots; accuracy, group_exact_match; prompts plain, chatty]"
    )
    assert {"superglue", "superglue/rte", "superglue/multirc", "symbols"} <= set(lines)


def test_task_without_demonstrations_is_listed_with_0_shots(icl_eval: IclEval) -> None:
    path = Path("tasks/toy/parity.yaml")
    path.write_text(path.read_text().replace("demonstrations: train, ", ""))

    assert "[0 shots; accuracy;" in icl_eval("list", "toy/parity", "--include", ".").out


def test_list_with_match_prints_only_matching_names(icl_eval: IclEval) -> None:
    result = icl_eval("list", "pair", "--include", ".")

    assert [line.split()[0] for line in result.out.splitlines()] == ["toy/pairs"]


def test_list_of_a_suite_includes_the_tasks_of_nested_suites(icl_eval: IclEval) -> None:
    Path("tasks/all.yaml").write_text("suite: all\nabout: More.\ntasks: [toy, symbols]\n")
    result = icl_eval("list", "all", "--include", ".")

    assert {"all", "symbols", "toy/parity", "toy/pairs"} <= {line.split()[0] for line in result.out.splitlines()}
    assert not any(line.startswith("toy ") for line in icl_eval("list", "toy/", "--include", ".").out.splitlines())


def test_invalid_file_is_reported_and_the_others_are_listed(icl_eval: IclEval) -> None:
    path = Path("tasks/toy/pairs.yaml")
    path.write_text("task: [\n")
    result = icl_eval("list", "toy", "--include", ".")

    assert result.code == 2
    assert [line.split()[0] for line in result.out.splitlines()] == ["toy", "toy/parity"]
    assert result.err.startswith(f"icl-eval: {path.resolve()}:")
    assert result.err.count("\n") == 1


def test_every_row_of_table_h1_is_listed_with_its_task(icl_eval: IclEval) -> None:
    result = icl_eval("list", "--reference", "gpt3")
    *rows, count = result.out.splitlines()
    columns = dict(row.split(maxsplit=1) for row in rows)

    assert (result.code, result.err) == (0, "")
    assert len(rows) == 63 - 11 + 1  # Table H.1 has 63 lines, eleven of them a task's second metric; and PTB
    assert columns["RTE"].split(maxsplit=1) == ["accuracy", "superglue-generated/rte, superglue/rte"]
    assert columns["CB"].rsplit(maxsplit=2) == [
        "accuracy, macro_f1, average",
        "superglue-generated/cb,",
        "superglue/cb",
    ]
    assert columns["SuperGLUE"].split() == ["average", "superglue"]
    assert columns["StoryCloze"].split() == ["accuracy", "storycloze"]
    carried = [row for row in rows if not row.endswith("no task")]
    assert count == f"{len(carried)} of 53 rows have a task"


def test_included_task_is_listed_with_the_row_it_references(icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_eval.tasks.library.bundled", Path)  # only the toys, which are here
    path = Path("tasks/toy/parity.yaml")
    path.write_text(path.read_text() + "reference: gpt3:StoryCloze\n")
    result = icl_eval("list", "--reference", "gpt3", "--include", ".")
    row = next(line for line in result.out.splitlines() if line.startswith("StoryCloze"))

    assert "toy/parity" in row
    assert "no task" not in row


def test_reference_to_a_row_prints_every_number(icl_eval: IclEval) -> None:
    result = icl_eval("list", "--reference", "gpt3:LAMBADA")
    first, _, second = result.out.partition("\n\n")

    assert first.splitlines()[0] == "gpt3:LAMBADA greedy_accuracy"
    assert second.splitlines()[0] == "gpt3:LAMBADA perplexity"
    assert ["GPT-3", "175B", "0.864", "15", "shots", "test"] in [line.split()[:6] for line in first.splitlines()]
    pythia = next(line for line in second.splitlines() if line.startswith("Pythia 70M deduped") and "0 shots" in line)
    assert pythia.split()[3:7] == ["138.45", "0", "shots", "test"]
    assert pythia.split()[7] == "lm-eval"
    assert pythia.split()[8].startswith("EleutherAI/pythia:evals/pythia-v1/pythia-70m-deduped/zero-shot/")


def test_row_without_numbers_is_reported(icl_eval: IclEval) -> None:
    assert icl_eval("list", "--reference", "superglue:AX-b").out == "superglue:AX-b has no numbers\n"


def test_unknown_reference_suggests_the_nearest(icl_eval: IclEval) -> None:
    paper, row = icl_eval("list", "--reference", "gtp3"), icl_eval("list", "--reference", "gpt3:LAMBDA")

    assert (paper.code, row.code) == (2, 2)
    assert "no source of published numbers is named 'gtp3'; did you mean gpt3" in paper.err
    assert "no row of published numbers in gpt3 is named 'LAMBDA'; did you mean LAMBADA?" in row.err


def test_reference_with_match_is_rejected(icl_eval: IclEval) -> None:
    result = icl_eval("list", "rte", "--reference", "gpt3")

    assert (result.code, result.err) == (2, "icl-eval: --reference takes no MATCH, but 'rte' is given\n")
