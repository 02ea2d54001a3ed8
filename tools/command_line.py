"""Write the tables of options into docs/command-line.md: `python -m tools.command_line`.

A table stands between `<!-- options of COMMAND -->` and `<!-- end -->`, and comes from the command itself. Options that
`run` has with the same meaning are only named.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import typer

from icl_eval.cli.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"
MAIN = "run"  # the command that has nearly all options
WIDTH = 120
TABLE = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with the options that its commands have now.

    Raises:
        KeyError: there is no such command.
    """
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return TABLE.sub(lambda found: f"{found[1]}{tables(commands[found[2]], commands[MAIN])}\n{found[3]}", page)


def tables(command: Any, main: Any) -> str:
    """The options of a command, one table for each panel; those that equal one of `main` are named below the tables."""
    explained = set() if command is main else {_row(option, main) for option in _options(main)}
    panels: dict[str, list[str]] = {}
    named = []
    for option in _options(command):
        row = _row(option, command)
        if row in explained:
            named.append(f"`{option.opts[0]}`")
        else:
            panels.setdefault(option.rich_help_panel, []).append(row)
    heads = "| option | value | meaning |\n|---|---|---|\n"
    parts = [f"\n{name}:\n\n{heads}{''.join(rows)}" for name, rows in panels.items()]
    if named:
        all_names = ", ".join(named)
        head = "Also, as" if panels else "As"
        parts.append(f"\n{_paragraph(f'{head} for [`{MAIN}`](#icl-eval-{MAIN}): {all_names}.')}\n")
    return "".join(parts)


def _options(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option"]


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in option.opts)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _row(option: Any, command: Any) -> str:
    """Names, how the value is written, and the help with the default, as `--help` has them."""
    usage, meaning = (text.replace("|", "\\|") for text in option.get_help_record(typer.Context(command)))
    value = re.split(r"--[\w-]+", usage)[-1].strip(" <>")
    return f"| {_names(option)} | {f'`{value}`' if value else ''} | {' '.join(meaning.split())} |\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
