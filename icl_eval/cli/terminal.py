"""The one place where commands print: text from outside is shown without control characters, in any encoding."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
from typing import NamedTuple

import typer

from icl_eval.errors import RunError

READER_LEFT = 141  # as a shell reports a program that wrote to a closed pipe
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BREAKS = "\u2028\u2029"
CONTROLS = {*map(chr, (*range(0x20), *range(0x7F, 0xA0)))} - {"\n", "\t"} | {*DIRECTIONS, *BREAKS}
PLAIN = {"─": "-", "│": "|", "±": "+-", "⟦": "[[", "⟧": "]]"}  # the signs of tables, where an encoding lacks them


UNSEEN_WIDTH = 100  # columns of what is not printed to a terminal
BRAILLE = range(0x2800, 0x2900)  # the dots of plots


class Coloured(NamedTuple):
    """Text that a terminal shows in a colour."""

    text: str
    colour: str


def write(*parts: str | Coloured, end: str = "\n") -> None:
    """Print a result to stdout.

    Raises:
        RunError: stdout cannot be written.
        typer.Exit: whoever read it has left.
    """
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = "".join(map(_styled if colours else _plain, parts))
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again when it ends
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(READER_LEFT) from error
        raise RunError(f"stdout cannot be written: {error.strerror}") from error


def terminal_width() -> int:
    """Columns of the terminal; `COLUMNS` of the environment goes before them."""
    return shutil.get_terminal_size((UNSEEN_WIDTH, 24)).columns


def remark(text: str) -> None:
    """Print a note to stderr."""
    sys.stderr.write(visible(text) + "\n")


def complain(sentence: object) -> None:
    """Print what is wrong to stderr, in one line, whatever line breaks a file or library put into it."""
    remark("icl-eval: " + " ".join(str(sentence).split("\n")))


def visible(text: str) -> str:
    """Text whose control characters are written as escapes: terminals obey them, and they can hide what is there."""
    return text.translate(_ESCAPES)


def accept_any_text() -> None:
    """Let stdout and stderr take every character: where their encoding lacks one, it is written as an escape."""
    codecs.register_error("icl-eval", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="icl-eval")


def _plain(part: str | Coloured) -> str:
    return visible(part.text if isinstance(part, Coloured) else part)


def _styled(part: str | Coloured) -> str:
    text = _plain(part)
    return typer.style(text, fg=part.colour) if isinstance(part, Coloured) and text else text


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """The error handler of a stream: signs of tables become plain ones, and other characters escapes as in JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_plain_sign, text)), error.end


def _plain_sign(character: str) -> str:
    return "*" if ord(character) in BRAILLE else PLAIN.get(character) or _escape(character)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


_ESCAPES = {ord(character): _escape(character) for character in CONTROLS}
