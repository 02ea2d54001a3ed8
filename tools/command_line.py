"""Write the tables of options into docs/command-line.md: `python -m tools.command_line`.

A table stands between `<!-- options of COMMAND -->` and `<!-- end -->`, and comes from the command itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from icl_eval.cli.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"
TABLE = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with the options that its commands have now.

    Raises:
        KeyError: there is no such command.
    """
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return TABLE.sub(lambda found: f"{found[1]}{tables(commands[found[2]])}\n{found[3]}", page)


def tables(command: Any) -> str:
    """The options of a command, one table for each panel."""
    panels: dict[str, list[str]] = {}
    for option in command.params:
        if option.param_type_name == "option":
            panels.setdefault(option.rich_help_panel, []).append(_row(option, command))
    heads = "| option | value | meaning |\n|---|---|---|\n"
    return "".join(f"\n{name}:\n\n{heads}{''.join(rows)}" for name, rows in panels.items())


def _row(option: Any, command: Any) -> str:
    """Names, how the value is written, and the help with the default, as `--help` has them."""
    usage, meaning = (text.replace("|", "\\|") for text in option.get_help_record(typer.Context(command)))
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = re.split(r"--[\w-]+", usage)[-1].strip(" <>")
    return f"| {names} | {f'`{value}`' if value else ''} | {' '.join(meaning.split())} |\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
