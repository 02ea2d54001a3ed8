"""The library: bundled and user-defined task, suite and prompt files by name, which are read when needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from icl_eval.errors import TaskError, UnknownName
from icl_eval.prompts import Prompt
from icl_eval.tasks.adapters import ADAPTERS
from icl_eval.tasks.definition import DemonstrationSource, SuiteDefinition, TaskDefinition, tasks_of
from icl_eval.tasks.located import Located, load_yaml, validate
from icl_eval.tasks.synthetic import GENERATORS
from icl_eval.tasks.task import Task

_Version = tuple[Path, int, int]  # a file, its modification time and its size

PACKAGE = Path(__file__).resolve().parent.parent


def bundled() -> Path:
    """The folder with the bundled `tasks` and `prompts`, in an installed package or in a checkout."""
    installed = PACKAGE / "library"
    return installed if installed.is_dir() else PACKAGE.parent


class Library:
    """Tasks and suites by name, in one or more root folders with the folders `tasks` and `prompts`.

    A file is read when it is first needed and after it has changed.

    Args:
        roots: the user's root folders; the bundled folder is always the last root.

    Raises:
        TaskError: two roots define the same name, or a root has no folder `tasks`.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self.roots = (*(root.resolve() for root in roots), bundled())
        for root in self.roots:
            if not (root / "tasks").is_dir():
                raise TaskError("there is no folder `tasks` here", root)
        self._parsed: dict[_Version, Located] = {}
        self._prompts: dict[_Version, Prompt] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file of every name. The name of a file is its path below `tasks`."""
        found: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted((root / "tasks").rglob("*.yaml")):
                name = path.relative_to(root / "tasks").with_suffix("").as_posix()
                if name in found and found[name].resolve() != path.resolve():
                    raise TaskError(f"the name {name!r} is also defined by {path}; rename one of the two", found[name])
                found[name] = path
        return found

    def names(self) -> list[str]:
        """The names of all tasks and suites, sorted."""
        return sorted(self.files)

    def is_suite(self, name: str) -> bool:
        """Whether this is the name of a suite."""
        return "suite" in self._located(name).data

    def suite(self, name: str) -> SuiteDefinition:
        """Load the definition of a suite."""
        located = self._located(name)
        suite = validate(SuiteDefinition, located)
        self._check_name(located, "suite", suite.suite, name)
        for index, task in enumerate(suite.tasks):
            if task not in self.files:
                raise UnknownName("task", task, self.files, *located.at(("tasks", index)))
        return suite

    def nested(self, name: str, within: tuple[str, ...] = ()) -> dict[str, SuiteDefinition]:
        """A suite and its nested suites by name, the innermost first.

        Raises:
            TaskError: a suite contains itself.
        """
        suite, found = self.suite(name), dict[str, SuiteDefinition]()
        for index, member in enumerate(suite.tasks):
            if member in (*within, name):
                raise TaskError(f"the suite {member!r} contains itself", *self._located(name).at(("tasks", index)))
            if self.is_suite(member):
                found |= self.nested(member, (*within, name))
        return found | {name: suite}

    def task(self, name: str) -> Task:
        """Load one task with its prompts.

        Raises:
            UnknownName: the task or one of its prompts does not exist.
            TaskError: the task file is not valid; the error has the line.
            PromptError: a prompt is not valid.
        """
        located = self._resolved(name)
        if "suite" in located.data:
            raise TaskError(f"{name!r} is a suite, not a task", *located.at(("suite",)))
        located = self._with_prompts(located, name)
        definition = validate(TaskDefinition, located)
        self._check_name(located, "task", definition.task, name)
        if definition.data.adapter is not None and definition.data.adapter not in ADAPTERS:
            raise UnknownName("data adapter", definition.data.adapter, ADAPTERS, *located.at(("data", "adapter")))
        if definition.data.synthetic is not None and definition.data.synthetic not in GENERATORS:
            where = located.at(("data", "synthetic"))
            raise UnknownName("generator of records", definition.data.synthetic, GENERATORS, *where)
        return Task(
            definition=definition,
            prompts={style: self._prompt(located, definition, style) for style in definition.prompts},
            path=located.path,
            demonstration_task=self._demonstration_task(located, definition),
        )

    def tasks(self, names: Iterable[str]) -> Iterator[Task]:
        """The distinct tasks with some names, which may be names of suites."""
        members: list[str] = []
        for name in names:
            suites = self.nested(name) if self.is_suite(name) else {}
            members += tasks_of(suites[name], suites) if suites else [name]
        return (self.task(name) for name in dict.fromkeys(members))

    def _located(self, name: str) -> Located:
        if name not in self.files:
            advice = "`icl-eval list` lists all names, and --include (in Python `library`) adds a folder of your own"
            raise UnknownName("task or suite", name, self.files, hint=advice)
        version = _version(self.files[name])
        if version not in self._parsed:
            self._parsed[version] = load_yaml(self.files[name])
        return self._parsed[version]

    def _resolved(self, name: str, seen: tuple[str, ...] = ()) -> Located:
        """A task file merged into the file that it extends: mappings are merged by key, other values are replaced."""
        located = self._located(name)
        base = located.data.get("extends")
        if base is None:
            return located
        if not isinstance(base, str) or base not in self.files:
            raise UnknownName("task", str(base), self.files, *located.at(("extends",)))
        if base in (*seen, name):
            raise TaskError(f"{base!r} extends itself", *located.at(("extends",)))
        parent = self._resolved(base, (*seen, name))
        if "suite" in parent.data:
            raise TaskError(f"{base!r} is a suite, not a task", *located.at(("extends",)))
        inherited = {key: value for key, value in parent.data.items() if key not in ("task", "extends")}
        return Located(located.path, _merged(inherited, located.data), located.lines, parent)

    def _demonstration_task(self, located: Located, definition: TaskDefinition) -> Task | None:
        """The other task from which demonstrations are drawn; None if there is none."""
        chosen = definition.splits.demonstrations
        if not isinstance(chosen, DemonstrationSource):
            return None
        path, line = located.at(("splits", "demonstrations", "task"))
        if chosen.task == definition.task:
            raise TaskError(f"for a split of the task itself, write `demonstrations: {chosen.split}`", path, line)
        if chosen.task not in self.files:
            raise UnknownName("task", chosen.task, self.files, path, line)
        source = self._resolved(chosen.task)
        if "suite" in source.data:
            raise TaskError(f"{chosen.task!r} is a suite, not a task", path, line)
        return Task(validate(TaskDefinition, self._with_prompts(source, chosen.task)), {}, self.files[chosen.task])

    def _with_prompts(self, located: Located, name: str) -> Located:
        """The task file; if the key `prompts` is missing, it gets the name of the only prompt file."""
        found = {path.stem for folder in self._prompt_folders(located, name) for path in folder.glob("*.jinja")}
        if "prompts" in located.data or len(found) != 1:
            return located
        return replace(located, data={**located.data, "prompts": [*found]})

    def _prompt_folders(self, located: Located, name: str) -> list[Path]:
        """The folders of a task's prompts: its own folder, then those of the tasks that it extends."""
        return [self._root(each) / "prompts" / each for each in (name, *self._bases(located))]

    def _prompt(self, located: Located, definition: TaskDefinition, style: str) -> Prompt:
        candidates = [folder / f"{style}.jinja" for folder in self._prompt_folders(located, definition.task)]
        for path in candidates:
            if path.is_file():
                version = _version(path)
                if version not in self._prompts:
                    self._prompts[version] = Prompt.from_file(path)
                return self._prompts[version]
        known = {path.stem for candidate in candidates for path in candidate.parent.glob("*.jinja")}
        where = located.at(("prompts", definition.prompts.index(style)))
        missing = f"there is no file {candidates[0]}"
        raise UnknownName(f"prompt of {definition.task}", style, known, *where, hint=missing)

    def _root(self, name: str) -> Path:
        """The root that defines a task, which also contains its prompts."""
        return next(root for root in self.roots if self.files[name].is_relative_to(root / "tasks"))

    def _bases(self, located: Located) -> Iterator[str]:
        """The names of the tasks that this one extends, the nearest first."""
        while located.base is not None:
            located = located.base
            yield next(name for name, path in self.files.items() if path == located.path)

    def _check_name(self, located: Located, key: str, found: str, name: str) -> None:
        if found != name:
            raise TaskError(
                f"the file has `{key}: {found}`, but its path below `tasks` is {name!r}", *located.at((key,))
            )


def _version(path: Path) -> _Version:
    """The current version of a file, which may be edited while the library is in use."""
    try:
        found = path.stat()
    except OSError:  # reported when the file is read
        return path, 0, 0
    return path, found.st_mtime_ns, found.st_size


def _merged(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None and key in merged:
            del merged[key]
            continue
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
