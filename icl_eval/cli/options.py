"""The options of the commands, which are made from the table of options, and functions that read their values."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin

import typer

from icl_eval.cli.terminal import print_error, remark, terminal_width
from icl_eval.config import EVALUATION, HUB, PANELS, PYTHON, RESULTS, SAMPLE, Option, RunOptions, table
from icl_eval.errors import RunError

if TYPE_CHECKING:
    from icl_eval.tasks import Library, Task

MAX_EXCERPT = 80  # characters of a value in a message
INCOMPLETE = 1  # exit code if some tasks or models failed

Format = Literal["table", "md", "latex", "html", "json", "csv"]
Bos = Literal["auto", "yes", "no"]
Command = Callable[..., None]


class CommandOptions(TypedDict):
    """Options of several commands that `evaluate` does not have, or has with another type."""

    task: Annotated[
        list[str] | None,
        Option(
            "Tasks and suites, separated by commas or repeated, or paths of task files. `icl-eval list` lists names.",
            EVALUATION,
            "NAME,...",
            flags=("--task", "-t"),
        ),
    ]
    model: Annotated[
        str | None,
        Option(
            "`tiny`, a directory, a GGUF file, a name on the Hub, or a URL such as http://localhost:8000/v1.",
            EVALUATION,
            "MODEL",
            flags=("--model", "-m"),
        ),
    ]
    data: Annotated[
        str | None,
        Option(
            "Data of the Hub, or the bundled sample. Default: the sample without --model, else the Hub.",
            EVALUATION,
            "hub|sample",
        ),
    ]
    data_dir: Annotated[
        Path | None,
        Option("Folder with data files, such as the official releases of the benchmarks.", EVALUATION, "FOLDER"),
    ]
    include: Annotated[
        list[Path] | None,
        Option("A folder of your own with `tasks` and `prompts`; may be repeated.", EVALUATION, "FOLDER"),
    ]
    seed: Annotated[int, Option("Draw of demonstrations.", EVALUATION, "N", default=0, minimum=0)]
    format: Annotated[Format, Option("How to print the table.", RESULTS, "", "table", ("--format", "-f"))]
    columns: Annotated[
        list[str] | None,
        Option(
            "Columns of the table, such as score,sd-seeds or `all`. With +sd-seeds,+ties, these are added to the "
            "default ones.",
            RESULTS,
            "NAME,...",
        ),
    ]
    categories: Annotated[
        bool, Option("Print the scores of all categories, even for tasks with many.", RESULTS, default=False)
    ]
    no_report: Annotated[bool, Option("Do not write the report with scores, curves and items.", RESULTS, "", False)]
    signatures: Annotated[
        bool, Option("Print the signature of each score. JSON and CSV always contain it.", RESULTS, "", False)
    ]


COMMAND_OPTIONS = table(CommandOptions)
RUN_OPTIONS = {name: entry for name, entry in table(RunOptions).items() if entry[1].panel != PYTHON}
PAIR = re.compile(  # commas inside quotes do not end a pair; quotes start after `=`, `[`, `,` or a space
    r"""((?:(?<=[=\[,\s])(?:"(?:\\.|[^"\\])*"|'(?:[^']|'')*')|.)+?)(?:,(?=\s*\w+\s*=)|\Z)""", re.DOTALL
)
TASK_ARGUMENT = inspect.Parameter(
    "tasks",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[list[str] | None, typer.Argument(metavar="TASK", help="Tasks and suites, as with --task.")],
)
ENCODING_OPTIONS = ("revision", "tokenizer", "bos", "max_length", "chat", "chat_args", "chat_instruction")
"""The options that determine how a model encodes text."""


def of_panel(panel: str) -> list[str]:
    """The names of the options of a run in one panel."""
    return [name for name, (_, option) in RUN_OPTIONS.items() if option.panel == panel]


def takes(*names: str) -> Callable[[Command], Command]:
    """A decorator that adds options of a run to a command. The command passes their values to `read`.

    The command's other parameters are annotated with an `Option` or a `typer.Argument`. A parameter without such an
    annotation is the option of this name in `CommandOptions`; `tasks` is the positional argument.

    Args:
        names: of the options to add.

    Raises:
        ValueError: a run has no option of this name.
    """

    def decorate(command: Command) -> Command:
        declared = inspect.signature(command, eval_str=True).parameters.values()
        added = {name: _run_parameter(name, *RUN_OPTIONS[name]) for name in sorted(names, key=[*RUN_OPTIONS].index)}
        others = [each for each in declared if each.kind is not each.VAR_KEYWORD and each.name not in added]
        parameters = sorted([*map(_command_parameter, others), *added.values()], key=_position)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def task_names(tasks: list[str] | None, task: list[str] | None, *, is_needed: bool = True) -> list[str]:
    """The names of tasks from the positional arguments and from `--task`.

    Raises:
        RunError: no task is given, but the command needs one.
    """
    found = paths_or_words([*(tasks or []), *(task or [])])
    if is_needed and not found:
        raise RunError("no task is given; `icl-eval list` lists tasks and suites")
    return found


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of options on the command line to those that `evaluate` takes.

    Raises:
        RunError: a value cannot be read.
    """
    return {name: _read(name, value, *RUN_OPTIONS[name]) for name, value in values.items()}


def _read(name: str, value: Any, kind: Any, option: Option) -> Any:
    return option.default if value in (None, []) else _typer_type(kind)[1](value, _flags(name, option)[0])


def _command_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter that a command declares, in the form that typer takes."""
    if get_origin(parameter.annotation) is Annotated:
        (option,) = parameter.annotation.__metadata__
        if isinstance(option, Option):
            return _parameter(parameter.name, parameter.annotation.__origin__, option, parameter.default)
        return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    if parameter.name == TASK_ARGUMENT.name:
        return TASK_ARGUMENT
    kind, option = COMMAND_OPTIONS[parameter.name]
    return _parameter(parameter.name, kind, option, option.default)


def _run_parameter(name: str, kind: Any, option: Option) -> inspect.Parameter:
    """An option of a run, in the form that typer takes."""
    taken, reader = _typer_type(kind)
    default = {(): None, None: "auto" if taken is Bos else None}.get(option.default, option.default)
    return _parameter(name, taken, option, str(default) if reader is numbers and default else default)


def _typer_type(kind: Any) -> tuple[Any, Callable[[Any, str], Any]]:
    """The type of an option for typer, and a function that reads a value given with this option."""
    members = [kind] if get_origin(kind) in (None, Literal) else get_args(kind)
    kinds = {get_origin(each) or each: get_args(each) for each in members}
    if Sequence in kinds:
        return (str | None, numbers) if kinds[Sequence] == (int,) else (list[str] | None, words)
    if str in kinds:
        return str | None, _unchanged
    if Mapping in kinds:
        return list[str] | None, pairs
    return (Bos, _yes_or_no) if {bool, NoneType} <= kinds.keys() else (kind, _unchanged)


def _parameter(name: str, kind: Any, option: Option, default: Any) -> inspect.Parameter:
    info = typer.Option(
        *_flags(name, option),
        metavar=option.metavar or None,
        min=option.minimum,
        help=option.help,
        rich_help_panel=option.panel,
    )
    default = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _flags(name: str, option: Option) -> tuple[str, ...]:
    return option.flags or (f"--{name.replace('_', '-')}",)


def _position(parameter: inspect.Parameter) -> int:
    """A sort key: arguments come first, then options in the order of their panels."""
    panel = getattr(parameter.annotation.__metadata__[0], "rich_help_panel", None)
    is_argument = isinstance(parameter.annotation.__metadata__[0], typer.models.ArgumentInfo)
    return -1 if is_argument else PANELS.index(panel or PYTHON)


def table_options(columns: list[str] | None, categories: bool, signatures: bool) -> dict[str, Any]:
    """Options of `Result.table` for this terminal."""
    return {"width": terminal_width(), "columns": words(columns), "categories": categories, "signatures": signatures}


def is_first() -> bool:
    """Whether this is the first process of a launcher, which prints for all, or the only process."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from icl_eval.engine import rank_and_world_size

    return rank_and_world_size()[0] == 0


def exit_if_incomplete(failures: Sequence[object], *, shown: bool = False) -> None:
    """Exit with code 1 if there are failures; `shown` also prints each failure to stderr."""
    for failure in failures if shown else ():
        print_error(failure)
    if failures:
        raise typer.Exit(INCOMPLETE)


def words(values: list[str] | None, _option: str = "") -> list[str]:
    """Split values that are separated by commas, repeated, or both.

    Raises:
        RunError: there are values, but all are empty.
    """
    found = [word.strip() for value in values or [] for word in value.split(",") if word.strip()]
    if values and not found:
        raise RunError(f"{', '.join(map(repr, values))} is an empty list")
    return found


def models(values: list[str] | None) -> list[str]:
    """Names of models, separated by commas, repeated, or both; `tiny` if there are none.

    An existing path is one model, even if it contains commas.

    Raises:
        RunError: a value has no name in it.
    """
    return paths_or_words(values) if values else ["tiny"]


def paths_or_words(values: list[str]) -> list[str]:
    """Split values that are separated by commas, except for existing paths, which may contain commas.

    Raises:
        RunError: a value has no word in it.
    """
    return [name for value in values for name in ([value] if Path(value).expanduser().exists() else words([value]))]


def numbers(value: str, option: str) -> int | list[int]:
    """One number, or a list of numbers if there is a comma.

    Raises:
        RunError: a value is not a whole number of at least zero.
    """
    found = [word.strip() for word in value.split(",") if word.strip()]
    if not found or not all(word.isdecimal() for word in found):
        raise RunError(f"{option} takes whole numbers separated by commas, such as 0,1,4, not {value!r}")
    return [int(word) for word in found] if "," in value else int(found[0])


def pairs(values: list[str], option: str) -> dict[int | str, Any]:
    """Read pairs `NAME=VALUE`, separated by commas, repeated, or both. Values are YAML, as in a task file.

    Raises:
        RunError: a pair does not have this form, or a name is given twice.
    """
    import yaml

    from icl_eval.tasks.located import Loader

    found: dict[int | str, Any] = {}
    for word in [word for value in values for word in PAIR.findall(value) or [value]]:
        name, equals, text = (part.strip() for part in word.partition("="))
        key = int(name) if name.isdecimal() else name
        if not (name and equals and text) or key in found:
            raise RunError(f"{option} takes NAME=VALUE,... without repeated names, not {word!r}")
        if "\\" in re.sub(r'"[^"]*"', "", text):
            raise RunError(f'{option} {name}={text}: a text with a backslash needs double quotes, such as "\\n"')
        try:
            found[key] = yaml.load(text, Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as impossible dates or too deep nesting
            excerpt = text if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]} ..."
            raise RunError(f"{option} {name}={excerpt}: the value cannot be read as YAML") from error
    return found


def _yes_or_no(value: Bos, _option: str) -> bool | None:
    return None if value == "auto" else value == "yes"


def _unchanged(value: Any, _option: str) -> Any:
    return value


def data_for(model: object, data: str | None, data_dir: Path | None) -> str | Path:
    """The source of data for a command with an optional model. Prints a note if it is the bundled sample by default.

    Raises:
        RunError: as from `data_of`.
    """
    if not (model or data or data_dir):
        remark("data: the bundled sample; use --data hub or --data-dir FOLDER for the full benchmarks")
    return data_of(data, data_dir, default=default_data(model))


def default_data(model: object) -> str:
    """The source of data if neither `--data` nor `--data-dir` is given."""
    return HUB if model else SAMPLE


def data_of(data: str | None, data_dir: Path | None, *, default: str | Path) -> str | Path:
    """The source of data: `--data` or `--data-dir`, or the default of the command.

    Raises:
        RunError: both are given, or --data is neither `hub` nor `sample`.
    """
    if data and data_dir:
        raise RunError("give either --data or --data-dir, not both")
    if data not in (None, HUB, SAMPLE):
        raise RunError(f"--data takes `hub` or `sample`, not {data!r}; use --data-dir for a directory")
    return data_dir or data or default


def one_task(command: str, tasks: list[str] | None, task: list[str] | None, include: list[Path] | None) -> Task:
    """The task of a command that takes a single task.

    Raises:
        RunError: no task or several tasks are given.
        UnknownName: the task does not exist.
    """
    names, library = library_for(task_names(tasks, task), include)
    if len(names) > 1:
        raise RunError(f"{command} takes one task, but several are given: {', '.join(names)}")
    return library.task(names[0])


def library_for(names: list[str], include: list[Path] | None) -> tuple[list[str], Library]:
    """The names of tasks and the library that contains them. Names may be paths of YAML files.

    For a path, the parent of its folder `tasks` is added to the library.

    Raises:
        RunError: a path does not exist, or is not in a folder named `tasks`.
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
            raise RunError("this task file does not exist", name)
        folder = next((parent for parent in path.parents if parent.name == "tasks"), None)
        if folder is None:
            raise RunError(
                "a task file must be in a folder named `tasks`, next to a folder named `prompts` with its prompts",
                name,
            )
        roots.append(folder.parent)
        resolved.append(path.relative_to(folder).with_suffix("").as_posix())
    return resolved, Library(list(dict.fromkeys(root.resolve() for root in roots)))
