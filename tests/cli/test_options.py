from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from icl_eval.cli.app import app

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"


def test_commands_are_these() -> None:
    assert list(COMMANDS) == ["run", "list", "show", "check", "rescore", "regress", "plan"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_command_has_help(command: str) -> None:
    silent = [each.name for each in COMMANDS[command].params if not getattr(each, "help", None)]

    assert silent == []
    assert COMMANDS[command].help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented_under_its_command(command: str) -> None:
    documented = set(re.findall(r"`(--?[a-z-]+)`", _section(command)))

    assert documented == {flag for each in COMMANDS[command].params for flag in _flags(each)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section(command: str) -> None:
    assert _section(command).strip()


def _section(command: str) -> str:
    """The documentation's section on a command, up to the next one."""
    sections = DOCS.read_text(encoding="utf-8").split("\n## `icl-eval ")[1:]
    return {section.split()[0].rstrip("`"): section for section in sections}[command]


def _flags(option: Any) -> list[str]:
    return [flag for flag in option.opts if flag.startswith("-")]
