from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import parity, write, write_library

from icl_eval import Library, Result, evaluate, rescore, sweep
from icl_eval.errors import PromptError, RunError
from icl_eval.prompts import Prompt
from icl_eval.results.manifest import read_manifest
from icl_eval.results.outcomes import flips, outcomes
from icl_eval.testing import FakeLM

LETTERED = """\
{% block query %}
Number: {{ n }}
{% for text in options %}{{ letters[loop.index0] }}. {{ text }}
{% endfor %}Answer:
{% endblock %}
{% block answer %} {{ letters[index] }}{% endblock %}
"""
NAMES = ("even", "odd")
FORMATS = Prompt(LETTERED, "plain").formats(4, 0)
RIGHT = (8, 5, 2, 6)  # of 8, in each format


def knowing(formats: list[Prompt] = FORMATS, right: tuple[int, ...] = RIGHT) -> FakeLM:
    """A model that answers the first questions right in each format, and the others wrong."""
    wanted = {
        each.query({"n": n}, NAMES, 0): each.answer({"n": n}, NAMES, n % 2 if n < known else 1 - n % 2)
        for each, known in zip(formats, right, strict=True)
        for n in range(8)
    }
    return FakeLM(wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats") / "run"


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    task = parity(prompt={"plain": LETTERED})
    return evaluate(knowing(), task, shots=[0, 2], formats=4, out=folder, prompts="plain")


def test_each_format_is_a_separate_prompt_whose_right_option_is_found(result: Result) -> None:
    values = {line.prompt: line.value for line in result if line.shots == 0 and not line.variants}

    assert values == {each.style: known / 8 for each, known in zip(FORMATS, RIGHT, strict=True)}


def test_the_spread_follows_and_the_table_shows_only_it_and_the_plain_prompt(result: Result) -> None:
    (spread,) = [line for line in result if line.variants and line.shots == 0]
    table = result.table()

    assert (spread.axis, spread.variants) == ("formats", 4)
    assert (spread.median, spread.minimum, spread.maximum) == (5.5 / 8, 2 / 8, 8 / 8)
    assert (spread.best, spread.worst) == ("plain", "plain~f2")
    assert "plain~mean of 4 formats: median 0.688, range 0.250 to 1.000 (best plain, worst plain~f2)\n" in table
    assert "~f1 " not in table
    assert "plain~f1 " in result.table(columns="from-baseline")
    assert {line["prompt"] for line in json.loads(result.table("json"))["scores"]} >= {"plain~f3"}


def test_a_format_has_its_difference_from_the_plain_prompt(result: Result) -> None:
    line = next(line for line in result if line.prompt == "plain~f2" and line.shots == 0)

    assert (line.baseline, line.difference) == ("plain", -6 / 8)


def test_signatures_have_the_format_and_its_seed(result: Result) -> None:
    first, second = (next(line for line in result if line.prompt == name) for name in ("plain", "plain~f1"))

    assert "|plain|k0|" in first.signature
    assert FORMATS[1].format is not None
    assert f"|plain~f1|{FORMATS[1].format.words}, seed 0|k0|" in second.signature
    assert first.signature.rpartition("#")[2] != second.signature.rpartition("#")[2]


def test_stored_texts_are_those_of_the_format_and_scores_come_back_without_the_model(
    result: Result, folder: Path
) -> None:
    frame = result.examples(prompts=True)
    rows = frame[(frame["prompt"] == "plain~f1") & (frame["shots"] == 0) & (frame["id"] == "3")]

    assert [*rows["prompt_text"]] == [FORMATS[1].query({"n": 3}, NAMES, 0)]
    assert rescore(folder).scores == result.scores


def test_more_formats_compute_only_what_is_new(result: Result, folder: Path) -> None:
    formats = Prompt(LETTERED, "plain").formats(5, 0)
    more = evaluate(knowing(), parity(prompt={"plain": LETTERED}), shots=[0, 2], formats=5, out=folder, prompts="plain")

    assert [each.style for each in formats][:4] == [each.style for each in FORMATS]
    assert more.manifest.reused is not None
    assert more.manifest.computed
    assert more.manifest.reused > 3 * more.manifest.computed


def test_averages_of_suites_are_of_the_prompts_themselves(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    options: dict[str, Any] = {"shots": 0, "library": Library([root]), "data": root / "data"}
    plain = evaluate(FakeLM(), "toy", **options)
    varied = evaluate(FakeLM(), "toy", formats=3, **options)

    assert [line for line in varied if line.of_suite] == [line for line in plain if line.of_suite]
    assert {line.prompt for line in varied if line.of_suite} == {"plain"}


def test_generated_answers_end_where_the_next_example_of_the_format_begins(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(
        root,
        "tasks/toy/spell.yaml",
        "task: toy/spell\nabout: Spell.\nanswer: text\ndata: {local: {validation: parity/val.jsonl}}\n"
        "splits: {evaluation: validation}\nfields: {n: n}\nreferences: '{{ n }}'\n"
        "decode: {max_tokens: 20, stop: ['Number:']}\nprompts: [plain]\n",
    )
    write(root, "prompts/toy/spell/plain.jinja", "Number: {{ n }}\nName:")
    formats = Prompt("Number: {{ n }}\nName:", "plain").formats(3, 0)
    after = {
        each.query({"n": n}, (), 0): f" {n}\n\n{each.query({'n': 9}, (), 0)}" for each in formats for n in range(8)
    }
    lm = FakeLM(after)
    result = evaluate(
        lm, "toy/spell", shots=0, formats=3, library=Library([root]), data=root / "data", metrics="exact_match"
    )

    assert {line.prompt: line.value for line in result if not line.variants} == dict.fromkeys(
        ("plain", "plain~f1", "plain~f2"), 1.0
    )


def test_a_prompt_without_formats_is_refused_before_the_model_runs() -> None:
    lm = FakeLM()
    with pytest.raises(PromptError, match=r"prompt 'inline': the prompt has no formats"):
        evaluate(lm, parity(prompt="{{ n }} is"), shots=0, formats=3)

    assert lm.answered == 0


@pytest.mark.parametrize("formats", [1, 0, "ten", "3:", "3:-1", "-3", "10000"])
def test_a_number_of_formats_is_at_least_two(formats: int | str) -> None:
    with pytest.raises(RunError, match=r"neither a number of formats, 2 to 9999, nor N:SEED"):
        evaluate(FakeLM(), parity(), formats=formats)


def test_the_seed_of_formats_changes_which_are_drawn() -> None:
    lines = evaluate(FakeLM(), parity(prompt=LETTERED), shots=0, formats="2:7").scores

    assert [line.prompt for line in lines] == ["inline", "inline~f1s7", "inline~mean of 2 formats"]
    assert ", seed 7|" in lines[1].signature


def test_examples_that_another_run_answers_are_those_of_the_same_prompt(tmp_path: Path) -> None:
    prompts = {"a": Prompt("A: {{ n }}", "a"), "b": Prompt("B: {{ n }}", "b")}
    for name, right in (("one", (3, 8)), ("other", (8, 0))):
        evaluate(
            knowing([*prompts.values()], right),
            parity(prompt=prompts),
            shots=0,
            prompts=["a", "b"],
            out=tmp_path / name,
        )
    one, other = (outcomes(tmp_path / name, read_manifest(tmp_path / name)) for name in ("one", "other"))

    found = {(each.example.cell.prompt, each.example.id) for each in flips(one, other, tmp_path)}
    assert found == {("a", str(n)) for n in range(3, 8)}


def test_a_sweep_has_the_range_of_each_model() -> None:
    options: dict[str, Any] = {"shots": 0, "formats": 4, "prompts": "plain"}
    found = sweep([knowing(), FakeLM(name="other")], parity(prompt={"plain": LETTERED}), **options)
    spreads = [line for result in found for line in result if line.variants]

    assert [(line.variants, line.maximum) for line in spreads] == [(4, 1.0), (4, 0.5)]
    assert (
        "fake: parity accuracy (0 shots), plain~mean of 4 formats: median 0.688, range 0.250 to 1.000" in found.table()
    )
    assert "plain~f1 " not in found.table()
