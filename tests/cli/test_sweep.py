from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import ASKED, answers

from icl_eval import rescore_sweep
from icl_eval.errors import ModelError
from icl_eval.runs.tasks import SAMPLE_NOTE
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

Models = dict[str, Callable[[], FakeLM]]
RUN = ("run", "-t", "toy/parity", "--shots", "0", *TOY)


def missing() -> FakeLM:
    raise ModelError("'gone' cannot be loaded: it is not there")


class Interrupted(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        super().score(requests[:5], sink)
        raise KeyboardInterrupt


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Models by name; every revision of a name is the same model."""
    named: Models = {
        "weak": lambda: FakeLM(answers([0]), name="weak"),
        "strong": lambda: FakeLM(answers(ASKED), name="strong"),
        "gone": missing,
    }
    monkeypatch.setattr("icl_eval.runs.model.load", lambda name, *_: named[name]())
    return named


def rows(text: str) -> list[tuple[str, str, str]]:
    return [(row["model"], row["revision"], row["value"]) for row in csv.DictReader(io.StringIO(text))]


@pytest.mark.parametrize(
    "given", [("-m", "weak,strong"), ("--model", "weak", "--model", "strong"), ("-m", "weak, strong,")]
)
def test_models_are_separated_by_commas_or_repeated(given: tuple[str, ...], models: Models, icl_eval: IclEval) -> None:
    result = icl_eval(*RUN, *given, "--out", "kept", "--format", "csv")

    assert (result.code, result.err) == (0, "stored in kept\n")
    assert rows(result.out) == [("weak", "", "0.125"), ("strong", "", "1.0")]


@pytest.mark.parametrize("given", [("r1,r2",), ("r1", "--revision", "r2")])
def test_every_model_at_every_revision(given: tuple[str, ...], models: Models, icl_eval: IclEval) -> None:
    result = icl_eval(*RUN, "-m", "weak,strong", "--revision", *given, "--format", "csv")

    assert [row[:2] for row in rows(result.out)] == [
        ("weak", "r1"),
        ("weak", "r2"),
        ("strong", "r1"),
        ("strong", "r2"),
    ]


def test_several_revisions_of_one_model_are_a_sweep(models: Models, icl_eval: IclEval) -> None:
    result = icl_eval(*RUN, "-m", "weak", "--revision", "r1,r2", "--out", "kept", "--format", "json")

    assert [each["revision"] for each in json.loads(result.out)["models"]] == ["r1", "r2"]
    assert Path("kept/sweep.json").is_file()


def test_one_model_at_one_revision_is_a_run(models: Models, icl_eval: IclEval) -> None:
    icl_eval(*RUN, "-m", "weak,", "--revision", "r1,", "--out", "kept")

    assert json.loads(Path("kept/manifest.json").read_text())["config"]["revision"] == "r1"
    assert not Path("kept/sweep.json").exists()


def test_existing_path_with_a_comma_is_one_model(models: Models, icl_eval: IclEval) -> None:
    Path("weak,strong").mkdir()
    Path("weak,strong/config.json").write_text("{}")
    models["weak,strong"] = lambda: FakeLM(name="both")
    icl_eval(*RUN, "-m", "weak,strong", "--out", "kept")

    assert json.loads(Path("kept/manifest.json").read_text())["config"]["model"] == "weak,strong"


@pytest.mark.parametrize("format", ["table", "md", "csv", "json"])
def test_rescore_prints_the_table_of_the_sweep(format: str, models: Models, icl_eval: IclEval) -> None:
    printed = icl_eval(*RUN, "-m", "weak,gone,strong", "--out", "kept", "-f", format).out
    again = icl_eval("rescore", "kept", "-f", format)

    assert again.code == 1
    assert again.err == "icl-eval: gone was not evaluated: 'gone' cannot be loaded: it is not there\n"
    assert again.out == printed == rescore_sweep("kept").table(format)


def test_rescore_computes_other_normalisations_of_a_sweep(models: Models, icl_eval: IclEval) -> None:
    icl_eval(*RUN, "-m", "weak,strong", "--out", "kept")
    result = icl_eval("rescore", "kept", "--normalization", "byte,sum", "-f", "csv")

    assert [row["normalization"] for row in csv.DictReader(io.StringIO(result.out))] == ["byte", "sum"] * 2


def test_failed_model_is_reported_and_the_exit_code_is_1(models: Models, icl_eval: IclEval) -> None:
    result = icl_eval(*RUN, "-m", "gone,strong", "--out", "kept", "--format", "csv")

    assert result.code == 1
    assert [row[0] for row in rows(result.out)] == ["strong"]
    assert result.err.splitlines() == [
        "stored in kept",
        "icl-eval: gone was not evaluated: 'gone' cannot be loaded: it is not there",
    ]


def test_failure_of_all_models_is_a_user_error(models: Models, icl_eval: IclEval) -> None:
    message = icl_eval(*RUN, "-m", "gone", "--revision", "r1,r2").mistake

    assert message.startswith("none of the models could be evaluated: gone@r1: 'gone' cannot be loaded")


def test_interrupted_sweep_continues_with_the_same_command(models: Models, icl_eval: IclEval) -> None:
    strong = FakeLM(answers(ASKED), name="strong")
    models["strong"] = lambda: Interrupted(answers(ASKED), name="strong")
    first = icl_eval(*RUN, "-m", "weak,strong")
    models["strong"] = lambda: strong
    again = icl_eval(*RUN, "-m", "weak,strong")

    assert (first.code, first.out) == (130, "")
    assert first.err.splitlines()[-1] == f"  icl-eval {' '.join(RUN)} -m weak,strong"
    assert (again.code, strong.answered) == (0, 18 - 5)


def test_explain_prints_the_plan_of_each_model_under_its_name(models: Models, icl_eval: IclEval) -> None:
    result = icl_eval(*RUN, "-m", "weak,strong", "--revision", "r1,r2", "--explain")
    heads = [line for line in result.out.splitlines() if line and "  " not in line]

    assert (result.code, result.err) == (0, "")
    assert heads == ["weak@r1", "weak@r2", "strong@r1", "strong@r2"]
    assert result.out.count("requests         32, 0 of them cached, 14 duplicates\n") == 4
    assert not Path("results").exists()


def test_explain_counts_stored_answers_of_a_sweep(models: Models, icl_eval: IclEval) -> None:
    icl_eval(*RUN, "-m", "weak,strong")
    result = icl_eval(*RUN, "-m", "weak,strong", "--explain")

    assert result.out.count("requests         32, 32 of them cached, 0 duplicates\n") == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("-m", "weak,weak"), "'weak' is listed twice among the models"),
        (("-m", "weak", "--revision", "r1,r1"), "'weak@r1' is listed twice among the models"),
        (("-m", ","), "',' is an empty list"),
        (("-m", "weak", "--revision", ","), "',' is an empty list"),
        (("-m", "weak,./gone"), "gone: there is no such model directory"),
        (
            ("-m", "weak,tiny", "--revision", "r1"),
            "'tiny' is on this machine and has no revisions; --revision is for names on the Hub",
        ),
        (
            ("-m", "tiny", "--revision", "r1"),
            "'tiny' is on this machine and has no revisions; --revision is for names on the Hub",
        ),
    ],
)
def test_invalid_list_of_models(given: tuple[str, ...], sentence: str, models: Models, icl_eval: IclEval) -> None:
    assert icl_eval(*RUN, *given).mistake == sentence
    assert not Path("results").exists()


def test_folder_of_a_sweep_rejects_a_single_run(models: Models, icl_eval: IclEval) -> None:
    icl_eval(*RUN, "-m", "weak,strong", "--out", "kept")

    assert icl_eval(*RUN, "-m", "weak", "--out", "kept").mistake == (
        "kept: this folder contains a sweep over several models; give another --out"
    )


def test_the_demonstration_is_noted_once(models: Models, icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sys.stderr.isatty()
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", Path("data").resolve())
    result = icl_eval(
        "run", "-t", "toy/parity", "--shots", "0", "--include", ".", "--data", "sample", "-m", "weak,strong"
    )

    assert result.out.splitlines()[:2] == [
        "2 models (bos0, w1048576, exact), data sample",
        f"note: {SAMPLE_NOTE}",
    ]
