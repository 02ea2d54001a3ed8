"""Options that several commands share, and how their words are read."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.errors import RunError, UnknownName

if TYPE_CHECKING:
    from icl_eval.tasks import Library, Normalization


class Format(StrEnum):
    """How a table is printed."""

    table = "table"
    md = "md"
    json = "json"
    csv = "csv"


class Bos(StrEnum):
    """Whether texts begin with the BOS token."""

    auto = "auto"
    yes = "yes"
    no = "no"


class Dtype(StrEnum):
    """The arithmetic of a model."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Overflow(StrEnum):
    """What happens to a prompt that is longer than the window."""

    drop = "drop"
    error = "error"
    truncate = "truncate"


TASK = typer.Option("--task", "-t", help="Tasks and suites, by comma or repeated; a path to a YAML file is a task too.")
MODEL = typer.Option(
    "--model",
    "-m",
    help="`tiny`, a directory, a GGUF file, a name on the Hub, or a URL such as http://localhost:8000/v1.",
)
INCLUDE = typer.Option("--include", help="A folder of your own with `tasks` and `prompts`; may be repeated.")
DATA = typer.Option("--data", help="`hub` or `sample`.")
DATA_DIR = typer.Option("--data-dir", help="Directory with the official release of the benchmarks.")
SPLIT = typer.Option("--split", help="Ask this split instead of each task's own.")
DEMONSTRATIONS = typer.Option(
    "--demonstrations", help="Show examples of this split instead of each task's own; never a query itself."
)
FORMAT = typer.Option("--format", "-f", help="How to print the table.")
SCORE = typer.Option(
    "--score", help="Normalisations to score by: sum, token, char, byte, unconditional, all. Default: each task's own."
)
TRUST = typer.Option("--trust-remote-code", help="Run code from model repositories and from `evaluate` metrics.")
PICKLE = typer.Option(
    "--allow-pickle", help="Load pickled weights, which can run code, where there are no safetensors."
)

Include = Annotated[list[Path] | None, INCLUDE]
DataDir = Annotated[Path | None, DATA_DIR]
Data = Annotated[str | None, DATA]
Split = Annotated[str | None, SPLIT]
Demonstrations = Annotated[str | None, DEMONSTRATIONS]


def complain(sentence: object) -> None:
    """Tell the user of a mistake, on stderr and in one line, whatever line breaks a file or library put into it."""
    print("icl-eval:", " ".join(str(sentence).split("\n")), file=sys.stderr)


def words(values: list[str] | None) -> list[str]:
    """Values given by comma, repeated, or both.

    Raises:
        RunError: there are values, but nothing stands in them.
    """
    found = [word.strip() for value in values or [] for word in value.split(",") if word.strip()]
    if values and not found:
        raise RunError(f"{', '.join(map(repr, values))} names nothing")
    return found


def numbers(value: str, option: str) -> list[int]:
    """Numbers by comma.

    Raises:
        RunError: one is not a whole number of at least zero.
    """
    found = [word.strip() for word in value.split(",") if word.strip()]
    if not found or not all(word.isdecimal() for word in found):
        raise RunError(f"{option} takes whole numbers by comma, such as 0,1,4; it was given {value!r}")
    return [int(word) for word in found]


def normalizations(values: list[str] | None) -> tuple[Normalization, ...]:
    """Names of normalisations; `all` stands for every one.

    Raises:
        UnknownName: there is no such normalisation.
    """
    from icl_eval.scoring import NORMALIZATIONS

    asked = words(values)
    for word in asked:
        if word not in NORMALIZATIONS and word != "all":
            raise UnknownName("normalisation", word, [*NORMALIZATIONS, "all"])
    return tuple(NORMALIZATIONS) if "all" in asked else tuple(dict.fromkeys(asked))  # type: ignore[arg-type]


def data_of(data: str | None, data_dir: Path | None, otherwise: str) -> str | Path:
    """Where data comes from: one of `--data` and `--data-dir`, or what the command takes otherwise.

    Raises:
        RunError: both are given, or --data is neither `hub` nor `sample`.
    """
    if data and data_dir:
        raise RunError("give either --data or --data-dir, not both")
    if data not in (None, "hub", "sample"):
        raise RunError(f"--data takes `hub` or `sample`, not {data!r}; a directory is given with --data-dir")
    return data_dir or data or otherwise


def library_for(names: list[str], include: list[Path] | None) -> tuple[list[str], Library]:
    """Names and the library that knows them; a path to a YAML file brings the folder around its `tasks` folder along.

    Raises:
        RunError: a path leads to no file, or to one that is not below a folder named `tasks`.
    """
    from icl_eval.tasks import Library

    roots = list(include or [])
    resolved = []
    for name in names:
        if name.endswith(".yml"):
            raise RunError("task files end in .yaml", name)
        if not name.endswith(".yaml"):
            resolved.append(name)
            continue
        path = Path(name).resolve()
        if not path.is_file():
            raise RunError("there is no such task file", name)
        folder = next((parent for parent in path.parents if parent.name == "tasks"), None)
        if folder is None:
            raise RunError(
                "a task file stands below a folder named `tasks`, its prompts below `prompts` beside it", name
            )
        roots.append(folder.parent)
        resolved.append(path.relative_to(folder).with_suffix("").as_posix())
    return resolved, Library(list(dict.fromkeys(root.resolve() for root in roots)))
