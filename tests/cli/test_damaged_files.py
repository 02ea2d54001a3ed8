"""Files that are damaged or made to do harm: each is one sentence with its file, and its line where there is one."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from icl_eval import load_model
from icl_eval.errors import ModelError, RunError
from icl_eval.models.loading.checkpoint import TINY_PATH
from icl_eval.models.loading.placement import read_map
from icl_eval.results.examples import read_examples
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


def test_damaged_line_of_examples_is_reported(icl_eval: IclEval) -> None:
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
        with_fields(names=["even", ""]),
        with_options(text=""),
        with_fields(unknown=1),
        lambda entry: entry | {"cell": entry["cell"] | {"seed": "0"}},
        lambda _: json.loads("[" * 500 + "]" * 500),
    ]
    damaged = [json.dumps(change(json.loads(lines[1]))) for change in changes]
    for line in [*damaged, NESTED, "", '{"kind": ']:
        EXAMPLES.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
        with pytest.raises(RunError) as caught:
            list(read_examples(EXAMPLES))

        assert str(caught.value) == f"{EXAMPLES}:2: this line is damaged; run the same command again to rewrite it", (
            line[:200]
        )
    assert icl_eval("rescore", "out").mistake == str(caught.value)


@pytest.mark.parametrize("line", [NESTED, '{"kind": "choice", "shots": NaN}'], ids=["nested", "nan"])
def test_a_run_repairs_damaged_examples(line: str, icl_eval: IclEval) -> None:
    before = EXAMPLES.read_text()
    EXAMPLES.write_text(f"{line}\n{before}")

    assert icl_eval(*RUN).code == 0
    assert EXAMPLES.read_text() == before


def test_a_run_repairs_a_log_probability_that_is_not_a_number(icl_eval: IclEval) -> None:
    before = EXAMPLES.read_text()
    entry = with_options(logprobs=[math.nan])(json.loads(before.splitlines()[0]))
    EXAMPLES.write_text("\n".join([json.dumps(entry), *before.splitlines()[1:]]) + "\n")

    assert icl_eval(*RUN).code == 0
    assert EXAMPLES.read_text() == before


def test_too_deeply_nested_manifest_is_damaged(icl_eval: IclEval) -> None:
    MANIFEST.write_text(NESTED)

    assert icl_eval("rescore", "out").mistake.startswith(f"{MANIFEST}: the manifest is damaged: ")
    assert icl_eval(*RUN).mistake.startswith(f"{MANIFEST}: the manifest is damaged: ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tasks/toy/parity.yaml", "the YAML does not parse: it is nested too deeply"),
        ("data/parity/val.jsonl", "not readable JSON: it is nested too deeply"),
        ("data/parity/val.json", "not readable JSON: it is nested too deeply"),
    ],
)
def test_too_deeply_nested_file_is_rejected(name: str, sentence: str, icl_eval: IclEval) -> None:
    parity = Path("tasks/toy/parity.yaml")
    parity.write_text(parity.read_text().replace("parity/val.jsonl", f"parity/val{Path(name).suffix}"))
    Path(name).write_text(NESTED)

    assert f"{name}:1: {sentence}" in icl_eval("check", "toy/parity", *TOY).mistake


BAD_MOMENTS: list[dict[str, Any]] = [
    {"means": [[2.0]]},
    {"sds": [[-1.0]]},
    {"sds": []},
    {"means": [[-2.0, -2.0]]},
    {"sds": [[True, "a"]]},
    {"zlib_bytes": -1},
]
LIKELIHOOD = {"parts": [[-1.0]], "greedy": True, "words": 1, "bytes": 4}
TEXT = {"references": ["a"], "generated": ["b"], "finished": ["stop"], "scores": [-1.0], "right": True}


def test_every_field_of_other_kinds_of_examples_is_checked() -> None:
    entry = json.loads(EXAMPLES.read_text().splitlines()[0])
    common = {name: entry[name] for name in entry if name not in ("kind", "gold", "names", "options", "grades")}
    kinds: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
        ("likelihood", LIKELIHOOD, [{"greedy": 1}, {"greedy": "no"}, {"parts": []}, {"parts": [[]]}, {"words": 1.5}]),
        ("likelihood", {**LIKELIHOOD, "means": [[-2.0]], "sds": [[1.0]]}, BAD_MOMENTS),
        ("text", TEXT, [{"right": 1}, {"right": None}, {"finished": ["stopped"]}, {"finished": [True]}]),
    ]
    for kind, whole, changes in kinds:
        EXAMPLES.write_text(json.dumps({"kind": kind, **common, **whole}))
        assert len(list(read_examples(EXAMPLES))) == 1
        for change in changes:
            EXAMPLES.write_text(json.dumps({"kind": kind, **common, **whole, **change}))
            with pytest.raises(RunError, match=r"examples\.jsonl:1: this line is damaged"):
                list(read_examples(EXAMPLES))


@pytest.mark.parametrize("change", [{"task": "toy/pairs"}, {"prompt": "chatty"}, {"shots": 1}, {"seed": 7}])
def test_example_of_a_cell_that_the_manifest_lacks_is_reported(change: dict[str, Any], icl_eval: IclEval) -> None:
    before = EXAMPLES.read_text()
    lines = before.splitlines()
    entry = json.loads(lines[2])
    cell = entry["cell"] | change
    EXAMPLES.write_text("\n".join([*lines, json.dumps(entry | {"cell": cell})]) + "\n")
    shots = "1 shot" if cell["shots"] == 1 else f"{cell['shots']} shots"
    of = f"{cell['task']} ({cell['prompt']}, {shots}, seed {cell['seed']})"

    for command in (("rescore", "out"), ("compare", "out", "out"), ("regress", "b", "--update", "out")):
        assert icl_eval(*command).mistake == (
            f"{EXAMPLES}:{len(lines) + 1}: this line is of {of}, which is not in the manifest; "
            "run the same command again to rewrite it"
        )
    assert icl_eval(*RUN).code == 0
    assert EXAMPLES.read_text() == before


def test_repeated_example_is_reported(icl_eval: IclEval) -> None:
    lines = EXAMPLES.read_text().splitlines()
    EXAMPLES.write_text("\n".join([*lines[:-1], lines[0]]) + "\n")

    assert icl_eval("rescore", "out").mistake == (
        f"{EXAMPLES}:{len(lines)}: an earlier line has the same example of toy/parity (plain, 2 shots, seed 0); "
        "run the same command again to rewrite it"
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_too_deeply_nested_checkpoint_file_is_one_sentence(name: str) -> None:
    shutil.copytree(TINY_PATH, "nested")
    Path("nested", name).write_text(NESTED)

    with pytest.raises(ModelError, match=r"^'nested' cannot be loaded: one of its files is nested too deeply"):
        load_model("nested")


@pytest.mark.parametrize("text", [NESTED, "a: " + NESTED, "{" * 100_000, "a: &a 1\nb: *a", "- " * 100_000])
def test_too_deeply_nested_device_map_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"map\.yaml: a device map is a mapping of modules to devices"):
        read_map(str(path), empty=pytest.fail)


@pytest.mark.parametrize("value", ["[" * 30_000, "[" * 10_000 + "]" * 10_000, "{a: " * 10_000])
def test_too_deeply_nested_decoding_value_is_one_sentence(value: str, icl_eval: IclEval) -> None:
    message = icl_eval(*RUN, "--decode", f"stop={value}").mistake

    assert message == f"--decode stop={value[:80]} ...: the value cannot be read as YAML"


def test_too_long_path_is_one_sentence(icl_eval: IclEval) -> None:
    for command in (
        (*RUN[:-1], "o" * 256),
        ("run", "--task", "toy/parity", "--include", ".", "--data-dir", "d/" * 2500),
        ("check", "toy/parity", "--include", ".", "--data-dir", "d" * 5000),
        ("rescore", "o" * 256),
    ):
        assert "too long" in icl_eval(*command).mistake
