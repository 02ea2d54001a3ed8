from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from icl_eval.cli.app import app
from icl_eval.cli.options import takes
from icl_eval.errors import RunError
from tools.command_line import PAGE, with_tables

from .shell import IclEval

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_list_of_commands_is_complete() -> None:
    assert list(COMMANDS) == [
        "run",
        "list",
        "show",
        "check",
        "rescore",
        "compare",
        "fit",
        "examples",
        "report",
        "plot",
        "regress",
        "plan",
        "contamination",
        "orders",
        "import",
    ]


def test_unknown_option_raises_when_a_command_is_defined() -> None:
    with pytest.raises(ValueError, match="balanced"):
        takes("shots", "balanced")(lambda *, format: None)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_command_has_help(command: str) -> None:
    silent = [each.name for each in COMMANDS[command].params if not getattr(each, "help", None)]

    assert silent == []
    assert COMMANDS[command].help


def test_command_line_page_documents_every_option() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page, "run `python -m tools.command_line`"
    assert re.findall(r"## `icl-eval (\w+).*?<!-- options of (\w+) -->", page, re.DOTALL) == [(c, c) for c in COMMANDS]


def test_table_without_an_option_is_detected() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines(keepends=True) if line.startswith("| `-")]

    assert len(rows) > 80
    assert with_tables("".join(line for line in page.splitlines(keepends=True) if line not in rows)) == page


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_metavars_and_fits_eighty_columns(
    command: str, icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = icl_eval(command, "--help").out

    assert re.findall(r"<(?:str|int|float|path|list|text|integer)\b[^>]*>|TEXT|INTEGER|PATH|FLOAT", output) == []
    assert max(map(len, output.splitlines())) <= 80


def test_help_of_a_run_has_a_section_for_each_panel(icl_eval: IclEval) -> None:
    output = icl_eval("run", "--help").out
    sections = dict(re.findall(r"^(\w[\w ]+):\n((?:  .*\n)+)", output, flags=re.MULTILINE))

    assert list(sections) == [
        "Arguments",
        "What is evaluated",
        "Results",
        "Models",
        "Devices",
        "Served models",
        "Options",
    ]
    for name, options in (
        ("What is evaluated", ("--task", "--shots", "--decode")),
        ("Results", ("--out", "--explain")),
        ("Models", ("--dtype", "--pll")),
        ("Devices", ("--device", "--processes")),
        ("Served models", ("--timeout",)),
        ("Options", ("--help",)),
    ):
        assert all(f"{option} " in sections[name] for option in options)


def test_the_list_of_commands_has_a_whole_sentence_for_each(icl_eval: IclEval) -> None:
    output = icl_eval("--help").out

    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\.$", output, flags=re.MULTILINE), command
    assert "..." not in output.split("Commands:")[1]
    assert icl_eval().out == output


READS_DATA = {
    "run": "runs.evaluate.evaluate",
    "plan": "runs.plan.plan",
    "show": "runs.check.previews",
    "check": "runs.check.inspect",
    "orders": "runs.orders.order_entropies",
    "contamination": "runs.contamination.contamination",
}


@pytest.mark.parametrize("command", READS_DATA)
def test_default_data_is_the_sample_or_with_a_model_the_hub(
    command: str, icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*given: Any, **options: Any) -> None:
        raise RunError(f"it reads {options['data'] if 'data' in options else given[2]}")

    monkeypatch.setattr(f"icl_eval.{READS_DATA[command]}", read)
    task = ["--task", "superglue/cb", *(["--text", "corpus.txt"] if command == "contamination" else [])]
    notes = (
        []
        if command in ("run", "check")
        else ["data: the bundled sample; use --data hub or --data-dir FOLDER for the full benchmarks"]
    )

    assert icl_eval(command, *task).err.splitlines() == [*notes, "icl-eval: it reads sample"]
    assert icl_eval(command, *task, "--data", "hub").mistake == "it reads hub"
    if command != "contamination":
        assert icl_eval(command, *task, "--model", "tiny").mistake == "it reads hub"
