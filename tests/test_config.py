"""The table of options, and what is made of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icl_eval import compare, evaluate, explain, load_model, plan, sweep
from icl_eval.analysis.compare import compare_with_first
from icl_eval.config import DEFAULTS, OPTIONS
from icl_eval.errors import IclEvalError, RunError, UnknownName
from icl_eval.models import LoadConfig
from icl_eval.results.run_config import RunConfig, read_run
from icl_eval.runs.power import sample_sizes
from icl_eval.testing import FakeLM

OF_CALLS = {
    "normalizations",
    "out",
    "keep",
    "note",
}  # of neither the configuration nor the loading of a model


def test_the_configuration_of_a_run_has_the_options_that_can_change_scores() -> None:
    stored = {name for name, option in OPTIONS.items() if option.changes_scores}

    assert set(RunConfig.model_fields) == {"model", "tasks", *stored}
    assert set(LoadConfig.model_fields) == set(OPTIONS) - stored - OF_CALLS


def test_defaults_are_those_of_the_table() -> None:
    given, without = read_run("m", ["t"], DEFAULTS), read_run("m", ["t"], {})

    assert given == without
    assert without == (RunConfig(model="m", tasks=("t",)), LoadConfig())
    assert without[0].seeds == (0,)


@pytest.mark.parametrize("function", [evaluate, explain, plan, sweep])
def test_help_of_a_function_has_every_option(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    described = inspect.getdoc(function) or ""

    assert {name: parameters[name].default for name in OPTIONS} == DEFAULTS
    assert [name for name, option in OPTIONS.items() if f"{name}: {option.help}" not in described] == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate("tiny", "symbols", limits=3), "no option is named 'limits'; did you mean limit?"),  # type: ignore[call-arg]
        (lambda: plan("tiny", "symbols", shot=3), "no option is named 'shot'; did you mean shots?"),  # type: ignore[call-arg]
        (lambda: load_model("tiny", dtipe="auto"), "no option is named 'dtipe'; did you mean dtype?"),
    ],
)
def test_an_unknown_option_is_one_sentence_with_the_nearest_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UnknownName, match=f"^{message.replace('?', '[?]')}$"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate("tiny", None), "`tasks` are names or `Task` objects, not NoneType"),  # type: ignore[arg-type]
        (lambda: evaluate("tiny", [3]), "`tasks` are names or `Task` objects, not int"),  # type: ignore[list-item]
        (lambda: evaluate("tiny", "symbols", out=3), "`out` must be a path, not int"),  # type: ignore[arg-type]
        (lambda: evaluate("tiny", "symbols", note=3), "`note` must be a text, not int"),  # type: ignore[arg-type]
        (lambda: evaluate(("a",), "symbols"), "a tuple is not a model unless it is a"),  # type: ignore[arg-type]
        (lambda: evaluate((None, None), "symbols"), "a tuple is not a model unless it is a"),
        (
            lambda: evaluate("tiny", "symbols", normalizations=None),  # type: ignore[arg-type]
            "no normalisation or calibration is named 'None'; ",
        ),
        (lambda: plan(FakeLM(), "symbols"), "`plan` takes the name of a model, not a FakeLM"),  # type: ignore[arg-type]
        (lambda: compare(None, "x"), "a run to compare is the path of its folder, not a NoneType"),  # type: ignore[arg-type]
        (lambda: compare_with_first("path"), "a comparison takes at least two runs"),
        (lambda: sample_sizes("symbols", "0.1"), "the difference to detect must be a number, not '0.1'"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_a_wrong_type_is_one_sentence(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(IclEvalError) as caught:
        call()

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fewshot_ids": ["a", "b", "a"]},
            "`fewshot_ids`: 'a' is listed twice, but a demonstration is shown only once",
        ),
        ({"fewshot_ids": ["a"], "select": "knn"}, "`fewshot_ids` lists the demonstrations, so `select` cannot be knn"),
        ({"decode": "max_tokens=3"}, "`decode`: this must be a mapping, such as {'max_tokens': 8}, not the text"),
    ],
)
def test_a_wrong_value_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        read_run("m", ["t"], options)

    assert str(caught.value).startswith(message)


def test_white_space_around_a_suggested_name_is_visible() -> None:
    assert str(UnknownName("field", "label", ["q", " label"])) == "no field is named 'label'; did you mean ' label'?"
    assert str(UnknownName("field", "x", ["q ", "label"])) == "no field is named 'x'; choose from label, 'q '"


@pytest.mark.parametrize(
    "options",
    [
        *({"shots": value} for value in (1.5, "many", [-1])),
        *({"seeds": value} for value in (1.5, [1, 1], "ab")),
        *({"decode": value} for value in (5, "ab")),
        *({"limit": 0}, {"overflow": "cut"}, {"retries": -1}, {"timeout": "soon"}),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence_with_the_option(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(RunError, match=f"^`{name}`"):
        read_run("m", ["t"], options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": [0, -1]}, "`shots`, value -1: Input should be greater than or equal to 0"),
        ({"prompts": ["p", 1]}, "`prompts`, value 1: Input should be a valid string"),
        ({"calibrate": ["x" * 99]}, f"`calibrate`: no calibration is named '{'x' * 99}'; choose from "),
        ({"content_free": [["x" * 99]]}, f"`content_free`, value ['{'x' * 58} ...: Input should be a valid string"),
        ({"labels": ["gold", "bronze"]}, "`labels`: 'bronze' is not a rule for labels; choose from gold, "),
        ({"formats": 2.5}, "`formats`: Input should be a valid integer"),
        ({"device_map": 3}, "`device_map`: Input should be a valid dictionary"),
    ],
)
def test_an_error_in_a_list_names_the_option_and_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        read_run("m", ["t"], options)

    assert str(caught.value).startswith(message)


def test_a_path_is_a_directory_even_if_it_reads_like_a_word() -> None:
    assert [read_run("m", ["t"], {"data": data})[0].data for data in ("sample", Path("sample"))] == [
        "sample",
        "./sample",
    ]
