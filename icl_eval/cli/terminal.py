"""Printing to stdout and stderr: control characters are escaped, and so is what the encoding cannot represent."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
from typing import NamedTuple

import typer

from icl_eval.errors import RunError

BROKEN_PIPE = 141  # exit code that a shell reports for a program that wrote to a closed pipe
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BREAKS = "\u2028\u2029"
CONTROLS = {*map(chr, (*range(0x20), *range(0x7F, 0xA0)))} - {"\n", "\t"} | {*DIRECTIONS, *BREAKS}
PLAIN = {"─": "-", "│": "|", "±": "+-", "⟦": "[[", "⟧": "]]"}  # replacements if an encoding lacks them
DEFAULT_WIDTH = 100  # columns if the output is not a terminal
BRAILLE = range(0x2800, 0x2900)  # the dots of plots


class Coloured(NamedTuple):
    """Text that is coloured in a terminal."""

    text: str
    colour: str


class Unescaped(str):
    """Text that is printed as it is."""

    __slots__ = ()


def write(*parts: str | Coloured, end: str = "\n") -> None:
    """Print a result to stdout.

    Raises:
        RunError: stdout cannot be written.
        typer.Exit: the reader of the pipe has closed it.
    """
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = "".join(map(_styled if colours else _plain, parts))
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python would flush again at exit
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(BROKEN_PIPE) from error
        raise RunError(f"stdout cannot be written: {error.strerror}") from error


def write_table(table: str, format: str) -> None:
    """Print a table to stdout. CSV in a file or a pipe keeps all characters, so that its names equal those of JSON.

    Raises:
        RunError: stdout cannot be written.
        typer.Exit: the reader of the pipe has closed it.
    """
    write(Unescaped(table) if format == "csv" and not sys.stdout.isatty() else table, end="")


def terminal_width() -> int:
    """The width of the terminal in columns; the environment variable `COLUMNS` overrides it."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


def remark(text: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(visible(text) + "\n")


def print_error(sentence: object) -> None:
    """Print an error to stderr, as one line."""
    remark("icl-eval: " + " ".join(str(sentence).split("\n")))


def visible(text: str) -> str:
    """Text with escaped control characters, which could otherwise control the terminal or hide text."""
    return text.translate(_ESCAPES)


def escape_unencodable() -> None:
    """Make stdout and stderr escape the characters that their encoding cannot represent."""
    codecs.register_error("icl-eval", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="icl-eval")


def _plain(part: str | Coloured) -> str:
    if isinstance(part, Unescaped):
        return part
    return visible(part.text if isinstance(part, Coloured) else part)


def _styled(part: str | Coloured) -> str:
    text = _plain(part)
    return typer.style(text, fg=part.colour) if isinstance(part, Coloured) and text else text


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoding: table characters are replaced by ASCII, other characters by escapes as in JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_ascii, text)), error.end


def _ascii(character: str) -> str:
    return "*" if ord(character) in BRAILLE else PLAIN.get(character) or _escape(character)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


_ESCAPES = {ord(character): _escape(character) for character in CONTROLS}
