"""The YAML of an lm-evaluation-harness task: read with its includes, without running the code that it names."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from icl_eval.errors import TaskError
from icl_eval.tasks.located import Loader, Located, load_yaml

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class PythonCode:
    """What `!function module.name` means: a function of a file beside the YAML."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"!function {self.name}"

    def loaded(self) -> Any:
        """The function; runs the code of its file.

        Raises:
            TaskError: there is no such file or function, or its code fails.
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
            said = (str(error).splitlines() or [""])[0]
            raise TaskError(f"`{self}` cannot be loaded: {type(error).__name__}: {said}", path) from error


@dataclass(frozen=True)
class Config:
    """The keys of a YAML with those of the files that it includes.

    Attributes:
        path: the file.
        keys: its own keys over those of the included files.
        files: the file itself and those included, nearest first.
    """

    path: Path
    keys: Mapping[str, Any]
    files: tuple[Located, ...]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; a null is none."""
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
        """Every key, dotted, whose value is code."""
        for key, value in self.keys.items():
            for inner, code in _code(value):
                yield ".".join([key, *inner]), code


def read_config(path: Path) -> Config:
    """Read a YAML and what it includes.

    Raises:
        TaskError: a file cannot be read or parsed, or includes itself.
    """
    return _read(path.resolve(), ())


@dataclass(frozen=True)
class Index:
    """What the YAML files of a folder define.

    Attributes:
        files: by the name of a task or group.
        tags: the tasks of each tag.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Index:
        """The files below a folder; those that do not parse are left out."""
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
            for each in [tag] if isinstance(tag, str) else tag:
                if isinstance(keys.get("task"), str):
                    tags.setdefault(str(each), []).append(keys["task"])
        return cls(files, tags)


def _read(path: Path, within: tuple[Path, ...]) -> Config:
    located = load_yaml(path, _loader(path.parent))
    included = located.data.get("include", [])
    keys: dict[str, Any] = {}
    files: list[Located] = []
    for name in [included] if isinstance(included, str) else included:
        other = (path.parent / str(name)).resolve()
        if other in (path, *within):
            raise TaskError(f"{other.name} includes itself", *located.at(("include",)))
        if not other.is_file():
            raise TaskError(f"the included file {other} is not there", *located.at(("include",)))
        base = _read(other, (*within, path))
        keys |= base.keys
        files += base.files
    own = {str(key): value for key, value in located.data.items() if key != "include"}
    return Config(path, keys | own, (located, *files))


def _loader(folder: Path) -> type[Loader]:
    """A safe loader that takes a function for its name."""

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
