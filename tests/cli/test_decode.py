from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import write

from icl_eval.cli import options
from icl_eval.errors import RunError
from icl_eval.testing import FakeLM

from .command_recorder import GENERATED
from .shell import TOY, IclEval


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["beams=1,max_tokens=32"], {"beams": 1, "max_tokens": 32}),
        (["beams = 1", "length_penalty=0.6"], {"beams": 1, "length_penalty": 0.6}),
        (["penalty=power"], {"penalty": "power"}),
        ([r'stop=["\n", "a, b"],beams=1'], {"stop": ["\n", "a, b"], "beams": 1}),
        ([r'stop="\n\n"'], {"stop": "\n\n"}),
        (["stop=END"], {"stop": "END"}),
        (["stop=[.]"], {"stop": ["."]}),
        (['stop="a,b=c"'], {"stop": "a,b=c"}),
        (["stop='x,y=2', beams=2"], {"stop": "x,y=2", "beams": 2}),
        (['stop=["a,b=c", "d\\",e=f"],beams=1'], {"stop": ["a,b=c", 'd",e=f'], "beams": 1}),
        (["stop=it's,penalty=power"], {"stop": "it's", "penalty": "power"}),
    ],
)
def test_values_are_read_as_those_of_a_task_file(values: list[str], found: dict[str, Any]) -> None:
    assert options.pairs(values, "--decode") == found


@pytest.mark.parametrize("value", ["", "beams", "=1", "beams=", "beams=1,beams=2", "1"])
def test_pair_without_name_or_value_is_an_error(value: str) -> None:
    with pytest.raises(RunError, match=r"--decode takes NAME=VALUE,\.\.\. without repeated names, not "):
        options.pairs([value], "--decode")


@pytest.mark.parametrize("value", [r"stop=\n", r"stop='\n'", r"stop=[\n]", r'stop=["Q:", \n]'])
def test_backslash_outside_double_quotes_is_an_error(value: str) -> None:
    with pytest.raises(RunError, match="a text with a backslash needs double quotes"):
        options.pairs([value], "--decode")


@pytest.mark.parametrize("value", ["[", "2020-13-45", "9" * 5000, "!!int x"])
def test_invalid_yaml_value_is_an_error(value: str) -> None:
    with pytest.raises(RunError, match=rf"^--decode stop={re.escape(value[:60])}.*: the value cannot be read as YAML$"):
        options.pairs([f"stop={value}"], "--decode")


def test_decode_changes_the_run_and_its_plan(icl_eval: IclEval, lm: FakeLM) -> None:
    write(Path(), "tasks/toy/written.yaml", GENERATED)
    write(Path(), "prompts/toy/written/plain.jinja", "Q: {{ n }}\nA:")
    command = ("run", "-t", "toy/written", "-m", "any", *TOY, "--decode", "beams=1,max_tokens=2")
    result = icl_eval(*command, "--out", "kept", "--format", "json")
    manifest = json.loads(Path("kept/manifest.json").read_text())

    assert "|greedy-max2-stop(\\n)|" in json.loads(result.out)["scores"][0]["signature"]
    assert manifest["config"]["decode"] == {"beams": 1, "max_tokens": 2}
    assert "generated tokens at most 16" in icl_eval(*command, "--explain").out
    planned = icl_eval("plan", "-t", "toy/written", *TOY, "--decode", "max_tokens=3")
    assert "generated tokens at most 24" in planned.out, planned


@pytest.mark.parametrize("command", ["run", "plan"])
def test_unknown_decoding_option_is_one_sentence(command: str, icl_eval: IclEval, lm: FakeLM) -> None:
    message = icl_eval(command, "-t", "toy/parity", *TOY, "--decode", "beam=1").mistake

    assert message == "no decoding option is named 'beam'; did you mean beams?"
    assert lm.answered == 0
