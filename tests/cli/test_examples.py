from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_tasks import ASKED, knowing

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval


@pytest.fixture(autouse=True)
def runs(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(knowing(0, 1, 2))
    icl_eval("run", "-t", "toy/parity", "--shots", "0,1", "--seeds", "2", *TOY, "--out", "one", "--include", ".")
    model(knowing(2, 3, 4))
    icl_eval("run", "-t", "toy/parity", "--shots", "0,1", "--seeds", "2", *TOY, "--out", "other")


def ids(icl_eval: IclEval, *words: object) -> list[int]:
    result = icl_eval("examples", "one", "--json", "--limit", "0", *words)
    assert result.code == 0, result.err
    return [int(json.loads(line)["id"]) for line in result.out.splitlines()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--right"], [0, 1, 2]),
        (["--wrong"], [3, 4, 5, 6, 7]),
        (["--flips", "other"], [3, 4]),
        (["--id", "5", "--id", "1"], [1, 5]),
        (["--id", "5", "--right"], []),
        ([], list(ASKED)),
    ],
)
def test_only_selected_examples_are_printed(words: list[str], found: list[int], icl_eval: IclEval) -> None:
    assert sorted(ids(icl_eval, "--shots", "0", *words)) == found


def test_only_selected_cells_are_printed(icl_eval: IclEval) -> None:
    assert len(ids(icl_eval)) == 3 * len(ASKED)
    assert len(ids(icl_eval, "--shots", "1")) == 2 * len(ASKED)
    assert len(ids(icl_eval, "--shots", "1", "--seed", "1", "--task", "toy/parity")) == len(ASKED)


def test_sort_prints_smallest_margin_or_largest_loss_first(icl_eval: IclEval) -> None:
    result = icl_eval("examples", "one", "--json", "--limit", "0", "--sort", "margin")
    margins = [json.loads(line)["margin"] for line in result.out.splitlines()]
    result = icl_eval("examples", "one", "--json", "--limit", "0", "--sort", "loss")
    losses = [json.loads(line)["loss"] for line in result.out.splitlines()]

    assert margins == sorted(margins)
    assert losses == sorted(losses, reverse=True)
    assert margins[0] < 0 < margins[-1]


def test_prompt_equals_that_of_show(icl_eval: IclEval) -> None:
    prompt = icl_eval("show", "toy/parity", "--example", "3", "--shots", "1", "--seed", "1", *TOY).out.partition("⟦")[0]
    result = icl_eval("examples", "one", "--id", "3", "--shots", "1", "--seed", "1", "--prompt")

    assert f"\n{prompt}\n" in result.out
    assert result.out.splitlines()[0].startswith("toy/parity (plain, 1 shot, seed 1), example 3: wrong, margin -")


def test_ten_examples_are_printed_by_default(icl_eval: IclEval) -> None:
    result = icl_eval("examples", "one")

    assert result.out.count("example ") == 10
    assert result.err == "10 of 24 examples; --limit 0 prints all\n"


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (["one", "--wrong", "--right"], "give either --wrong or --right, not both"),
        (["one", "--task", "toy/party"], "no task of this run is named 'toy/party'; did you mean toy/parity?"),
        (["one", "--shots", "2"], "no number of shots of this run is named '2'; choose from 0, 1"),
        (["one", "--seed", "7"], "no seed of this run is named '7'; choose from 0, 1"),
        (["one", "--id", "99"], "the run has no example with the id '99' among the selected ones"),
        (
            ["one", "--shots", "many"],
            "--shots takes whole numbers separated by commas, such as 0,1,4, not 'many'",
        ),
        (["nowhere"], "nowhere: this is not a run folder: it does not exist"),
        (["one", "--flips", "nowhere"], "nowhere: this is not a run folder: it does not exist"),
    ],
)
def test_user_error_is_one_sentence(words: list[str], mistake: str, icl_eval: IclEval) -> None:
    assert icl_eval("examples", *words).mistake == mistake


def test_runs_without_a_common_example_have_no_flips(icl_eval: IclEval) -> None:
    icl_eval("run", "-t", "toy/pairs", "--shots", "0", *TOY, "--out", "pairs")

    mistake = icl_eval("examples", "one", "--flips", "pairs").mistake

    assert mistake == "pairs: the runs have no example with the same task, shots and seed in common"


def test_control_characters_are_escaped(icl_eval: IclEval) -> None:
    path = Path("data/parity/val.jsonl")
    hostile = "\x1b]0;owned\x07\u202e"
    path.write_text(path.read_text() + json.dumps({"n": hostile, "pair": 0, "label": 0}) + "\n")
    icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY, "--out", "hostile")
    result = icl_eval("examples", "hostile", "--prompt", "--limit", "0")

    assert result.code == 0
    assert not {*result.out} & {"\x1b", "\x07", "\u202e"}
    assert "\\u202e" in result.out
