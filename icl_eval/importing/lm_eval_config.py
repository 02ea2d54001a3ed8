"""YAML files of lm-evaluation-harness, read with the files that they include, without running any code."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from icl_eval.errors import TaskError
from icl_eval.tasks.located import Loader, Located, load_yaml

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class PythonCode:
    """`!function module.name` in a YAML file: a function in a Python file in the same folder."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"!function {self.name}"

    def loaded(self) -> Any:
        """Load the function, which runs the code of its file.

        Raises:
            TaskError: the file or function does not exist, or its code fails.
        """
        module, _, function = self.name.rpartition(".")
        path = self.folder / f"{module.replace('.', '/')}.py"
        try:
            spec = importlib.util.spec_from_file_location(f"icl_eval_imported.{path.parent.name}.{module}", path)
            if spec is None or spec.loader is None:
                raise ImportError(f"there is no file {path}")
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
            return getattr(found, function)
        except (Exception, SystemExit) as error:
            message = (str(error).splitlines() or [""])[0]
            raise TaskError(f"`{self}` cannot be loaded: {type(error).__name__}: {message}", path) from error


def _unless_code(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    return value if isinstance(value, PythonCode) else check(value)


OrCode = WrapValidator(_unless_code)  # the value may also be code, which is rejected or frozen elsewhere
Text = Annotated[str | None, OrCode]
Texts = Annotated[str | list[str] | None, OrCode]
Number = Annotated[int | None, OrCode]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Filter(_Shape):
    function: Annotated[str, OrCode]
    regex_pattern: Text = None


class _Pipeline(_Shape):
    filter: list[Annotated[_Filter, OrCode]]


class _MetricShape(_Shape):
    regexes_to_ignore: Annotated[list[str] | None, OrCode] = None


class _Generation(_Shape):
    until: Texts = None
    temperature: Annotated[float | None, OrCode] = None


class _Keys(_Shape):
    """The types of the values that are read; null means that a key is not set."""

    group: str | None = None
    task: str | list[str | dict[str, Any]] | None = None
    tag: str | list[str] | None = None
    aggregate_metric_list: dict[str, Any] | list[dict[str, Any]] | None = None
    output_type: Text = None
    training_split: Text = None
    validation_split: Text = None
    test_split: Text = None
    fewshot_split: Text = None
    description: Text = None
    gen_prefix: Text = None
    target_delimiter: Text = None
    fewshot_delimiter: Text = None
    dataset_kwargs: Annotated[dict[str, Any] | None, OrCode] = None
    generation_kwargs: Annotated[_Generation | None, OrCode] = None
    fewshot_config: Annotated[dict[str, Any] | None, OrCode] = None
    num_fewshot: Number = None
    repeats: Number = None
    filter_list: Annotated[list[_Pipeline] | None, OrCode] = None
    metric_list: Annotated[list[_MetricShape] | None, OrCode] = None


@dataclass(frozen=True)
class Config:
    """The keys of a YAML with those of the files that it includes.

    Attributes:
        path: the file.
        keys: all keys; those of the file override those of included files.
        files: the file and the included files, the nearest first.

    Raises:
        TaskError: the value of a key has another type than the harness reads.
    """

    path: Path
    keys: Mapping[str, Any]
    files: tuple[Located, ...]

    def __post_init__(self) -> None:
        """Check the types of values."""
        try:
            _Keys.model_validate(self.keys)
        except ValidationError as error:
            problem = error.errors()[0]
            keys, value = list[str](), self.keys
            for part in problem["loc"]:  # without the members of unions, which are not keys
                if part in value if isinstance(value, Mapping) else isinstance(part, int) and part < len(value):
                    keys, value = [*keys, str(part)], value[part]  # type: ignore[index]
            if problem["type"] == "missing":
                keys.append(str(problem["loc"][-1]))
            message = problem["msg"].partition(" or instance of")[0]
            raise self.error(keys[0], f"`{'.'.join(keys)}`: {message}") from error

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default if it is missing or null."""
        value = self.keys.get(key)
        return default if value is None else value

    def at(self, key: str) -> tuple[Path, int | None]:
        """The file and line of a key."""
        located = next((each for each in self.files if (key,) in each.lines), self.files[0])
        return located.at((key,))

    def error(self, key: str, message: str) -> TaskError:
        """An error about a key."""
        return TaskError(message, *self.at(key))

    def python(self) -> Iterator[tuple[str, PythonCode]]:
        """The dotted path of every key whose value is code, and the code."""
        for key, value in self.keys.items():
            for inner, code in _code(value):
                yield ".".join([key, *inner]), code


def read_config(path: Path) -> Config:
    """Read a YAML file and the files that it includes.

    Raises:
        TaskError: a file cannot be read or parsed, or includes itself.
    """
    return _read(path.resolve(), ())


@dataclass(frozen=True)
class Index:
    """The tasks, groups and tags in the YAML files of a folder.

    Attributes:
        files: the file of each task or group.
        tags: the tasks with each tag.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Index:
        """Read the files below a folder; files that are not valid are left out."""
        files, tags = dict[str, Path](), dict[str, list[str]]()
        for path in sorted(each for each in folder.rglob("*") if each.name.endswith(SUFFIXES) and each.is_file()):
            try:
                keys = load_yaml(path, _loader(path.parent)).data
            except TaskError:
                continue
            for name in (keys.get(key) for key in ("task", "group")):
                if isinstance(name, str):
                    files.setdefault(name, path)
            tag = keys.get("tag") or []
            for each in tag if isinstance(tag, list) else [tag]:
                if isinstance(keys.get("task"), str):
                    tags.setdefault(str(each), []).append(keys["task"])
        return cls(files, tags)


def _read(path: Path, within: tuple[Path, ...]) -> Config:
    located = load_yaml(path, _loader(path.parent))
    included = located.data.get("include") or []
    names = [included] if isinstance(included, str) else included
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TaskError("`include` must be the name of a file, or a list of names", *located.at(("include",)))
    keys: dict[str, Any] = {}
    files: list[Located] = []
    for name in names:
        other = (path.parent / name).resolve()
        if other in (path, *within):
            raise TaskError(f"{other.name} includes itself", *located.at(("include",)))
        if not other.is_file():
            raise TaskError(f"the included file {other} does not exist", *located.at(("include",)))
        base = _read(other, (*within, path))
        keys |= base.keys
        files += base.files
    overrides = {str(key): value for key, value in located.data.items() if key != "include"}
    return Config(path, keys | overrides, (located, *files))


@cache
def _loader(folder: Path) -> type[Loader]:
    """A safe loader that reads `!function` as `PythonCode`."""

    class WithFunctions(Loader):
        pass

    def function(_: Any, node: yaml.ScalarNode) -> PythonCode:
        return PythonCode(folder, str(node.value))

    WithFunctions.add_constructor("!function", function)
    return WithFunctions


def _code(value: Any) -> Iterator[tuple[tuple[str, ...], PythonCode]]:
    if isinstance(value, PythonCode):
        yield (), value
    members = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, each in members:
        for inner, code in _code(each):
            yield (str(key), *inner), code
