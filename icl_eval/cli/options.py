"""The options of the commands, made from the table of options, and how their values are read."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin

import typer

from icl_eval.cli.terminal import complain, remark, terminal_width
from icl_eval.config import EVALUATION, HUB, PANELS, PYTHON, RESULTS, SAMPLE, Option, RunOptions, table
from icl_eval.errors import RunError

if TYPE_CHECKING:
    from icl_eval.tasks import Library, Task

LONGEST_SHOWN = 80  # characters of a value in a message
INCOMPLETE = 1  # exit code of a command that did a part of its work

Format = Literal["table", "md", "latex", "html", "json", "csv"]
Bos = Literal["auto", "yes", "no"]
Command = Callable[..., None]


class CommandOptions(TypedDict):
    """Options of several commands that `evaluate` does not take, or takes in another form."""

    task: Annotated[
        list[str] | None,
        Option(
            "Tasks and suites, separated by commas or repeated, or paths of task files. `icl-eval list` prints names.",
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
        bool, Option("Print the scores of all categories, even of tasks with many.", RESULTS, default=False)
    ]
    no_report: Annotated[bool, Option("Do not write a page with scores, curves and items.", RESULTS, "", False)]
    signatures: Annotated[
        bool, Option("Print the signature of each score. JSON and CSV always have it.", RESULTS, "", False)
    ]


OF_COMMANDS = table(CommandOptions)
OF_RUNS = {name: entry for name, entry in table(RunOptions).items() if entry[1].panel != PYTHON}
PAIR = re.compile(  # a comma within quotes, which follow `=`, `[`, a comma or a space, ends no pair
    r"""((?:(?<=[=\[,\s])(?:"(?:\\.|[^"\\])*"|'(?:[^']|'')*')|.)+?)(?:,(?=\s*\w+\s*=)|\Z)""", re.DOTALL
)
TASK_ARGUMENT = inspect.Parameter(
    "tasks",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[list[str] | None, typer.Argument(metavar="TASK", help="Tasks and suites, as with --task.")],
)
ENCODING = ("revision", "tokenizer", "bos", "max_length", "chat", "chat_args", "chat_instruction")
"""The options that say how a model encodes text, whatever its demonstrations are."""


def of_panel(panel: str) -> list[str]:
    """The names of a run's options under one heading."""
    return [name for name, (_, option) in OF_RUNS.items() if option.panel == panel]


def takes(*names: str) -> Callable[[Command], Command]:
    """Give a command options of a run, whose values it gets by keyword, for `read`.

    Another parameter of the command is annotated with its `Option` or an argument of `typer`. Without these, it is
    the option of its name in `CommandOptions`; `tasks` follow the command without `--task`.

    Raises:
        ValueError: a run has no such option.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        made = {name: _of_a_run(name, *OF_RUNS[name]) for name in sorted(names, key=[*OF_RUNS].index)}
        others = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD and each.name not in made]
        parameters = sorted([*map(_of_a_command, others), *made.values()], key=_position)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def task_names(tasks: list[str] | None, task: list[str] | None, *, is_needed: bool = True) -> list[str]:
    """The names of tasks that follow the command, and those of `--task`.

    Raises:
        RunError: there are none, but one is needed.
    """
    found = paths_or_words([*(tasks or []), *(task or [])])
    if is_needed and not found:
        raise RunError("no task is given; `icl-eval list` names tasks and suites")
    return found


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options of a run, as `evaluate` takes them.

    Raises:
        RunError: a value cannot be read.
    """
    return {name: _read(name, value, *OF_RUNS[name]) for name, value in values.items()}


def _read(name: str, value: Any, kind: Any, option: Option) -> Any:
    return option.default if value in (None, []) else _taken(kind)[1](value, _flags(name, option)[0])


def _of_a_command(parameter: inspect.Parameter) -> inspect.Parameter:
    """A command's own parameter for typer."""
    if get_origin(parameter.annotation) is Annotated:
        (option,) = parameter.annotation.__metadata__
        if isinstance(option, Option):
            return _parameter(parameter.name, parameter.annotation.__origin__, option, parameter.default)
        return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    if parameter.name == TASK_ARGUMENT.name:
        return TASK_ARGUMENT
    kind, option = OF_COMMANDS[parameter.name]
    return _parameter(parameter.name, kind, option, option.default)


def _of_a_run(name: str, kind: Any, option: Option) -> inspect.Parameter:
    """An option of a run as a parameter for typer."""
    taken, reader = _taken(kind)
    default = {(): None, None: "auto" if taken is Bos else None}.get(option.default, option.default)
    return _parameter(name, taken, option, str(default) if reader is numbers and default else default)


def _taken(kind: Any) -> tuple[Any, Callable[[Any, str], Any]]:
    """The type that typer takes for a type of the table, and how its values are read: given a value and its option."""
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
    made = typer.Option(
        *_flags(name, option),
        metavar=option.metavar or None,
        min=option.minimum,
        help=option.help,
        rich_help_panel=option.panel,
    )
    default = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made])


def _flags(name: str, option: Option) -> tuple[str, ...]:
    return option.flags or (f"--{name.replace('_', '-')}",)


def _position(parameter: inspect.Parameter) -> int:
    """Arguments stand first, then options in the order of their panels."""
    panel = getattr(parameter.annotation.__metadata__[0], "rich_help_panel", None)
    is_argument = isinstance(parameter.annotation.__metadata__[0], typer.models.ArgumentInfo)
    return -1 if is_argument else PANELS.index(panel or PYTHON)


def seen(columns: list[str] | None, categories: bool, signatures: bool) -> dict[str, Any]:
    """The options of `Result.table` for this terminal."""
    return {"width": terminal_width(), "columns": words(columns), "categories": categories, "signatures": signatures}


def is_first() -> bool:
    """Whether this process, of those that a launcher started, prints for the user."""
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


def words(values: list[str] | None, _option: str = "") -> list[str]:
    """Values given by comma, repeated, or both.

    Raises:
        RunError: there are values, but all are empty.
    """
    found = [word.strip() for value in values or [] for word in value.split(",") if word.strip()]
    if values and not found:
        raise RunError(f"{', '.join(map(repr, values))} is an empty list")
    return found


def models(values: list[str] | None) -> list[str]:
    """Names of models by comma, repeated, or both; a path that is there is one model, commas or not.

    Raises:
        RunError: there are values, but all are empty.
    """
    return paths_or_words(values) if values else ["tiny"]


def paths_or_words(values: list[str]) -> list[str]:
    """Values given by comma, repeated, or both; a path that is there is one value, commas or not.

    Raises:
        RunError: one is empty.
    """
    return [name for value in values for name in ([value] if Path(value).expanduser().exists() else words([value]))]


def numbers(value: str, option: str) -> int | list[int]:
    """A number, or several by comma.

    Raises:
        RunError: one is not a whole number of at least zero.
    """
    found = [word.strip() for word in value.split(",") if word.strip()]
    if not found or not all(word.isdecimal() for word in found):
        raise RunError(f"{option} takes whole numbers separated by commas, such as 0,1,4; it was given {value!r}")
    return [int(word) for word in found] if "," in value else int(found[0])


def pairs(values: list[str], option: str) -> dict[int | str, Any]:
    """Pairs `NAME=VALUE` by comma, repeated, or both; values are written as in a task file.

    Raises:
        RunError: one does not read `NAME=VALUE`, or a name is given twice.
    """
    import yaml

    from icl_eval.tasks.located import Loader

    found: dict[int | str, Any] = {}
    for word in [word for value in values for word in PAIR.findall(value) or [value]]:
        name, equals, text = (part.strip() for part in word.partition("="))
        key = int(name) if name.isdecimal() else name
        if not (name and equals and text) or key in found:
            raise RunError(f"{option} takes NAME=VALUE,... with every name once, not {word!r}")
        if "\\" in re.sub(r'"[^"]*"', "", text):
            raise RunError(f'{option} {name}={text}: put a text with a backslash in double quotes, such as "\\n"')
        try:
            found[key] = yaml.load(text, Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # impossible dates, numbers; nesting
            excerpt = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."
            raise RunError(f"{option} {name}={excerpt}: the value cannot be read as YAML") from error
    return found


def _yes_or_no(value: Bos, _option: str) -> bool | None:
    return None if value == "auto" else value == "yes"


def _unchanged(value: Any, _option: str) -> Any:
    return value


def data_for(model: object, data: str | None, data_dir: Path | None) -> str | Path:
    """Where the data of a command comes from that may be given a model; the bundled sample by default is named.

    Raises:
        RunError: as `data_of` does.
    """
    if not (model or data or data_dir):
        remark("data: the bundled sample; --data hub or --data-dir FOLDER uses the whole benchmarks")
    return data_of(data, data_dir, default=default_data(model))


def default_data(model: object) -> str:
    """Where data comes from if neither `--data` nor `--data-dir` is given."""
    return HUB if model else SAMPLE


def data_of(data: str | None, data_dir: Path | None, *, default: str | Path) -> str | Path:
    """Where data comes from: one of `--data` and `--data-dir`, or the command's default.

    Raises:
        RunError: both are given, or --data is neither `hub` nor `sample`.
    """
    if data and data_dir:
        raise RunError("give either --data or --data-dir, not both")
    if data not in (None, HUB, SAMPLE):
        raise RunError(f"--data takes `hub` or `sample`, not {data!r}; a directory is given with --data-dir")
    return data_dir or data or default


def one_task(command: str, tasks: list[str] | None, task: list[str] | None, include: list[Path] | None) -> Task:
    """The task of a command that takes one.

    Raises:
        RunError: there is none, or there are several.
        UnknownName: there is no such task.
    """
    names, library = library_for(task_names(tasks, task), include)
    if len(names) > 1:
        raise RunError(f"{command} takes one task; it was given {', '.join(names)}")
    return library.task(names[0])


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
                "a task file must be in a folder named `tasks`, and its prompts in a folder `prompts` beside it", name
            )
        roots.append(folder.parent)
        resolved.append(path.relative_to(folder).with_suffix("").as_posix())
    return resolved, Library(list(dict.fromkeys(root.resolve() for root in roots)))
