"""Options that several commands share, and how their words are read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from icl_eval.choices import Dtype, Overflow, parse_limit
from icl_eval.cli import panels
from icl_eval.cli.terminal import complain
from icl_eval.errors import RunError, UnknownName

if TYPE_CHECKING:
    from icl_eval.tasks import Library, Normalization


LONGEST_SHOWN = 80  # characters of a value in a message
INCOMPLETE = 1  # exit code of a command that did a part of its work

Format = Literal["table", "md", "json", "csv"]
Bos = Literal["auto", "yes", "no"]

TASK = typer.Option(
    "--task",
    "-t",
    metavar="NAME,...",
    help="Tasks and suites, by comma or repeated; a path to a YAML file is a task too. `icl-eval list` names them.",
    rich_help_panel=panels.ASKED,
)
MODEL = typer.Option(
    "--model",
    "-m",
    metavar="MODEL",
    help="`tiny`, a directory, a GGUF file, a name on the Hub, or a URL such as http://localhost:8000/v1.",
    rich_help_panel=panels.ASKED,
)
MODELS = typer.Option(
    "--model",
    "-m",
    metavar="MODEL,...",
    help="`tiny`, directories, GGUF files, names on the Hub, or URLs such as http://localhost:8000/v1, by comma. "
    "Default: a demonstration, the bundled `tiny` on the bundled sample.",
    rich_help_panel=panels.ASKED,
)
INCLUDE = typer.Option(
    "--include",
    metavar="FOLDER",
    rich_help_panel=panels.ASKED,
    help="A folder of your own with `tasks` and `prompts`; may be repeated.",
)
DATA = typer.Option(
    "--data", metavar="hub|sample", rich_help_panel=panels.ASKED, help="Data of the Hub, or the bundled sample."
)
DATA_DIR = typer.Option(
    "--data-dir",
    metavar="FOLDER",
    rich_help_panel=panels.ASKED,
    help="Directory with the official release of the benchmarks.",
)
SPLIT = typer.Option(
    "--split", metavar="NAME", rich_help_panel=panels.ASKED, help="Ask this split instead of each task's own."
)
DEMONSTRATIONS = typer.Option(
    "--demonstrations",
    metavar="SPLIT",
    rich_help_panel=panels.ASKED,
    help="Show examples of this split instead of each task's own; never a query itself.",
)
FORMAT = typer.Option("--format", "-f", rich_help_panel=panels.RESULTS, help="How to print the table.")
SCORE = typer.Option(
    "--score",
    metavar="NAME,...",
    rich_help_panel=panels.RESULTS,
    help="Normalisations to score by: sum, token, char, byte, unconditional, all. Default: each task's own.",
)
TRUST = typer.Option(
    "--trust-remote-code",
    rich_help_panel=panels.MODELS,
    help="Run code from model repositories and from `evaluate` metrics.",
)
PICKLE = typer.Option(
    "--allow-pickle",
    rich_help_panel=panels.MODELS,
    help="Load pickled weights, which can run code, where there are no safetensors.",
)
TOKENIZER = typer.Option(
    "--tokenizer",
    metavar="MODEL",
    help="Directory, GGUF file or Hub name of a tokenizer: an endpoint needs it, others take it instead of theirs.",
    rich_help_panel=panels.MODELS,
)
QUANTIZE = typer.Option(
    "--quantize", help="Quantise the weights while they are loaded; this changes scores.", rich_help_panel=panels.MODELS
)
ATTN = typer.Option(
    "--attn", help="The attention that the model must use. Default: what is fastest.", rich_help_panel=panels.DEVICES
)
DEVICE_MAP = typer.Option(
    "--device-map",
    metavar="NAME|FILE",
    help="auto, balanced, balanced_low_0, sequential, or a YAML or JSON file that gives modules devices.",
    rich_help_panel=panels.DEVICES,
)
MAX_MEMORY = typer.Option(
    "--max-memory",
    metavar="DEVICE=SIZE,...",
    help="What such a map may use, such as 0=20GiB,cpu=30GiB.",
    rich_help_panel=panels.DEVICES,
)
OFFLOAD_DIR = typer.Option(
    "--offload-dir",
    metavar="FOLDER",
    help="Where weights on the disk go. Default: a temporary folder.",
    rich_help_panel=panels.DEVICES,
)
TENSOR_PARALLEL = typer.Option(
    "--tensor-parallel", help="Divide every layer among the processes started together.", rich_help_panel=panels.DEVICES
)

Include = Annotated[list[Path] | None, INCLUDE]
DataDir = Annotated[Path | None, DATA_DIR]
Data = Annotated[str | None, DATA]
Split = Annotated[str | None, SPLIT]
Demonstrations = Annotated[str | None, DEMONSTRATIONS]
Shots = Annotated[
    str | None,
    typer.Option(
        metavar="N,...",
        rich_help_panel=panels.ASKED,
        help="Numbers of demonstrations, such as 0,1,4,32. Default: each task's own.",
    ),
]
Seeds = Annotated[
    str,
    typer.Option(
        metavar="N|N,...",
        rich_help_panel=panels.ASKED,
        help="How many draws of demonstrations, or which, such as 3,4,5.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="NAME,...",
        rich_help_panel=panels.ASKED,
        help="Prompts by name. Default: each task's own.",
    ),
]


def _limit(value: str | None) -> int | str | None:
    try:
        return None if value is None else parse_limit(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Limit = Annotated[
    str | None,
    typer.Option(
        callback=_limit,
        metavar="N|first:N",
        rich_help_panel=panels.ASKED,
        help="Evaluate a pseudo-random sample of N examples (whole questions or pairs), or the first N.",
    ),
]
OverflowRule = Annotated[
    Overflow,
    typer.Option(
        rich_help_panel=panels.ASKED,
        help="Prompts longer than the window: drop demonstrations, error, or also truncate queries.",
    ),
]
Decode = Annotated[
    list[str] | None,
    typer.Option(
        "--decode",
        metavar="NAME=VALUE,...",
        rich_help_panel=panels.ASKED,
        help="How texts are written, such as beams=1,max_tokens=32. Default: each task's own decoding.",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=panels.MODELS, help="Revision of the model's repository on the Hub."),
]
Arithmetic = Annotated[Dtype, typer.Option(rich_help_panel=panels.MODELS, help="Arithmetic; auto is float32 on a CPU.")]
BeginsWithBos = Annotated[
    Bos,
    typer.Option(
        rich_help_panel=panels.MODELS, help="Begin every text with the BOS token; auto does as the tokenizer."
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        rich_help_panel=panels.MODELS,
        help="Tokens the model reads at once, if its checkpoint does not say.",
    ),
]


def is_first() -> bool:
    """Whether this process is the one that talks to the user, of those that a launcher started."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from icl_eval.engine import rank_and_world_size

    return rank_and_world_size()[0] == 0


def exit_if_incomplete(failures: Sequence[object], *, shown: bool = False) -> None:
    """Leave with exit code 1 if scores are missing, and name each failure on stderr if they are to be `shown`."""
    for failure in failures if shown else ():
        complain(failure)
    if failures:
        raise typer.Exit(INCOMPLETE)


def words(values: list[str] | None) -> list[str]:
    """Values given by comma, repeated, or both.

    Raises:
        RunError: there are values, but nothing stands in them.
    """
    found = [word.strip() for value in values or [] for word in value.split(",") if word.strip()]
    if values and not found:
        raise RunError(f"{', '.join(map(repr, values))} names nothing")
    return found


def models(values: list[str] | None) -> list[str]:
    """Names of models by comma, repeated, or both; a path that is there is one model, commas or not.

    Raises:
        RunError: there are values, but nothing stands in them.
    """
    if not values:
        return ["tiny"]
    return [name for value in values for name in ([value] if Path(value).expanduser().exists() else words([value]))]


def numbers(value: str, option: str) -> list[int]:
    """Numbers by comma.

    Raises:
        RunError: one is not a whole number of at least zero.
    """
    found = [word.strip() for word in value.split(",") if word.strip()]
    if not found or not all(word.isdecimal() for word in found):
        raise RunError(f"{option} takes whole numbers by comma, such as 0,1,4; it was given {value!r}")
    return [int(word) for word in found]


def memory(values: list[str] | None) -> dict[int | str, str] | None:
    """Sizes by device, the GPUs by number; nothing if nothing is given.

    Raises:
        RunError: one does not read `DEVICE=SIZE`, or a device is named twice.
    """
    if values is None:
        return None
    sizes: dict[int | str, str] = {}
    for word in words(values):
        place, equals, size = (part.strip() for part in word.partition("="))
        device = int(place) if place.isdecimal() else place
        if not (place and equals and size) or device in sizes:
            raise RunError(
                f"--max-memory takes DEVICE=SIZE once for each device, such as 0=20GiB,cpu=30GiB, not {word!r}"
            )
        sizes[device] = size
    return sizes


def decoding(values: list[str] | None) -> dict[str, Any] | None:
    """Options of decoding by name, their values written as in a task file; one stop string needs no list.

    Raises:
        RunError: one does not read `NAME=VALUE`, or a name stands twice.
    """
    import yaml

    found: dict[str, Any] = {}
    for word in [word for value in values or [] for word in re.split(r",(?=\s*\w+\s*=)", value)]:
        name, equals, said = (part.strip() for part in word.partition("="))
        if not (name and equals and said) or name in found:
            raise RunError(f"--decode takes NAME=VALUE once for each name, such as beams=1,max_tokens=32, not {word!r}")
        if "\\" in re.sub(r'"[^"]*"', "", said):
            raise RunError(f'--decode {name}={said}: a text with a backslash stands in double quotes, such as "\\n"')
        try:
            value = yaml.safe_load(said)
        except (yaml.YAMLError, RecursionError) as error:
            shown = said if len(said) <= LONGEST_SHOWN else f"{said[:LONGEST_SHOWN]} ..."
            raise RunError(f"--decode {name}={shown}: the value does not parse as that of a task file") from error
        found[name] = [value] if name == "stop" and isinstance(value, str) else value
    return found or None


def grid(shots: str | None, seeds: str, prompt: list[str] | None) -> dict[str, Any]:
    """The arguments of `evaluate` that `--shots`, `--seeds` and `--prompt` stand for.

    Raises:
        RunError: something that should be numbers is not.
    """
    which = numbers(seeds, "--seeds")
    return {
        "shots": numbers(shots, "--shots") if shots is not None else (),
        "seeds": which if "," in seeds else which[0],
        "prompts": words(prompt),
    }


def begins_with_bos(bos: Bos) -> bool | None:
    """Whether texts begin with the BOS token; none if the tokenizer decides."""
    return None if bos == "auto" else bos == "yes"


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
