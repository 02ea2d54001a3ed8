"""Files that are damaged or made to do harm: each is one sentence with its file, and its line where there is one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from icl_eval.errors import RunError
from icl_eval.runs.evidence import read_evidence
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

NESTED = "[" * 100_000 + "]" * 100_000
RUN = ("run", "--task", "toy/parity", *TOY, "--out", "out")
EXAMPLES, MANIFEST = Path("out/examples.jsonl"), Path("out/manifest.json")


@pytest.fixture(autouse=True)
def _finished(icl_eval: IclEval, lm: FakeLM) -> None:
    """A finished run in the folder `out`."""
    assert icl_eval(*RUN).code == 0


def with_options(**change: Any) -> Any:
    """A change of the first option of a line."""
    return lambda entry: entry | {"options": [entry["options"][0] | change, *entry["options"][1:]]}


def with_fields(**change: Any) -> Any:
    return lambda entry: entry | change


def test_a_damaged_line_of_examples_is_named(icl_eval: IclEval) -> None:
    lines = EXAMPLES.read_text().splitlines()
    changes = [
        *(with_options(logprobs=values) for values in ([math.nan], [-math.inf], [0.5], [], ["-1"], [-(10**400)], -1.0)),
        *(with_options(text=text) for text in (5, None, "\ud800")),
        with_options(unconditional=[math.nan]),
        *(with_fields(**{name: 5}) for name in ("id", "cluster", "group", "names", "options", "gold", "cell", "kind")),
        *(with_fields(shots=value) for value in ("2", math.nan, -1, True, None)),
        *(with_fields(gold=value) for value in ([2], [-1], ["even"])),
        with_fields(demonstrations="abc"),
        with_fields(names=["even"]),
        with_fields(unknown=1),
        lambda entry: entry | {"cell": entry["cell"] | {"seed": "0"}},
        lambda _: json.loads("[" * 500 + "]" * 500),
    ]
    damaged = [json.dumps(change(json.loads(lines[1]))) for change in changes]
    for line in [*damaged, NESTED, "", '{"kind": ']:
        EXAMPLES.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
        with pytest.raises(RunError) as caught:
            list(read_evidence(EXAMPLES))

        assert str(caught.value) == f"{EXAMPLES}:2: this line is damaged; the same run again writes it anew", line[:200]
    assert icl_eval("rescore", "out").mistake == str(caught.value)


@pytest.mark.parametrize("line", [NESTED, '{"kind": "choice", "shots": NaN}'], ids=["nested", "nan"])
def test_a_run_repairs_damaged_examples(line: str, icl_eval: IclEval) -> None:
    before = EXAMPLES.read_text()
    EXAMPLES.write_text(f"{line}\n{before}")

    assert icl_eval(*RUN).code == 0
    assert EXAMPLES.read_text() == before


def test_a_run_repairs_a_log_probability_that_is_no_number(icl_eval: IclEval) -> None:
    before = EXAMPLES.read_text()
    entry = with_options(logprobs=[math.nan])(json.loads(before.splitlines()[0]))
    EXAMPLES.write_text("\n".join([json.dumps(entry), *before.splitlines()[1:]]) + "\n")

    assert icl_eval(*RUN).code == 0
    assert EXAMPLES.read_text() == before


def test_a_nested_manifest_is_damaged(icl_eval: IclEval) -> None:
    MANIFEST.write_text(NESTED)

    assert icl_eval("rescore", "out").mistake.startswith(f"{MANIFEST}: the manifest is damaged: ")
    assert icl_eval(*RUN).mistake.startswith(f"{MANIFEST}: the manifest is damaged: ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tasks/toy/parity.yaml", "the YAML does not parse: it is nested too deeply"),
        ("data/parity/val.jsonl", "not readable JSON: "),
    ],
)
def test_a_nested_file_is_refused(name: str, sentence: str, icl_eval: IclEval) -> None:
    Path(name).write_text(NESTED)

    assert f"{name}:1: {sentence}" in icl_eval("check", "toy/parity", *TOY).mistake


def test_names_that_are_too_long(icl_eval: IclEval) -> None:
    for command in (
        (*RUN[:-1], "o" * 256),
        ("run", "--task", "toy/parity", "--include", ".", "--data-dir", "d/" * 2500),
        ("check", "toy/parity", "--include", ".", "--data-dir", "d" * 5000),
        ("rescore", "o" * 256),
    ):
        assert "too long" in icl_eval(*command).mistake
