"""Metrics that are not part of icl-eval: Python functions and classes, and metrics of the `evaluate` library.

`python:module:function` is a function or a class. `evaluate:NAME`, `evaluate:NAME#CONFIG` or `...:KEY` is an argument
of `evaluate.load`: a name on the Hub or the path of a metric script. Its predictions are the indices of chosen options,
and its references the indices of right options, so metrics of texts cannot be used.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CellType, CodeType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics.means import ExampleMean
from icl_eval.metrics.prediction import AnyPrediction, Kind, Prediction
from icl_eval.metrics.statistics import AnyMetric, Statistics
from icl_eval.tasks.metric_names import EVALUATE, PYTHON, code_name

FAILURES = (Exception, SystemExit)  # what external code may raise
ROUNDING = 1e-9  # by how much a value may exceed the bounds
UNTRUSTED = "runs code that is not part of icl-eval; allow it with --trust-remote-code"


@dataclass(frozen=True)
class EvaluateMetric:
    """A value that a metric of the `evaluate` library computes; a `CorpusMetric` with unknown bounds."""

    name: str
    compute: Callable[..., Mapping[str, Any] | None]
    key: str | None
    """The key of the value in the result; None if the result has a single value."""
    of: Kind = "choice"
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def score(self, predictions: Sequence[Prediction]) -> float:
        """The value for these predictions.

        Raises:
            UnknownName: the result does not have the key.
            MetricError: an example has several right options, or the value cannot be computed.
        """
        chosen = [prediction.chosen for prediction in predictions]
        if several := next((each.id for each in predictions if len(each.gold) > 1), None):
            raise MetricError(f"{self.name} needs one right option per example, but example {several!r} has several")
        gold = [prediction.gold[0] for prediction in predictions]
        try:
            result = self.compute(predictions=chosen, references=gold)
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name} cannot be computed from option indices: {error}") from error
        return self._entry(result or {})

    def _entry(self, result: Mapping[str, Any]) -> float:
        if self.key is None and len(result) != 1:
            raise MetricError(f"{self.name} computes {', '.join(result) or 'nothing'}; name one: {self.name}:KEY")
        key = next(iter(result)) if self.key is None else self.key
        if key not in result:
            raise UnknownName(f"result of {self.name}", key, result)
        try:
            return float(result[key])
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name} computes {key!r} as {result[key]!r}, which is not a number") from error


def load(name: str, *, trust_remote_code: bool, path: Path | None = None, line: int | None = None) -> EvaluateMetric:
    """Load a metric of the `evaluate` library, which runs its script and downloads it if it is on the Hub.

    Raises:
        MetricError: code is not trusted, or the library cannot load the metric.
    """
    script, _, key = name.removeprefix(EVALUATE).partition(":")
    script, _, config = script.partition("#")
    if not trust_remote_code:
        raise MetricError(f"{name} {UNTRUSTED}", path, line)
    try:
        import evaluate  # takes seconds to import

        module = evaluate.load(script, config or None, keep_in_memory=True)
    except (ImportError, OSError, ValueError, TypeError, KeyError) as error:
        raise MetricError(f"{name} cannot be loaded: {error}", path, line) from error
    return EvaluateMetric(name, module.compute, key or None)


def python_metric(
    name: str,
    kind: Kind,
    given: Mapping[str, Any],
    *,
    trust_remote_code: bool,
    path: Path | None = None,
    line: int | None = None,
) -> AnyMetric:
    """The metric that a Python function or class implements.

    A function, or an instance of a callable class, takes one prediction and returns a number; the metric is the mean
    over examples. A class with `statistics`, (examples) -> (examples, d), and `value`, (..., d) -> (...), is a
    `Metric`. A class with `score`, (examples) -> number, is a `CorpusMetric`.

    Args:
        name: `python:module:qualified name`.
        kind: kind of answers that the metric takes, if it has no attribute `of`.
        given: functions and classes by name, which are trusted; others are imported.
        trust_remote_code: whether modules may be imported.
        path, line: position in a task file, for errors.

    Raises:
        MetricError: the module is not trusted or cannot be imported, or the function or class is not a metric.
        UnknownName: the module does not have this function or class.
    """
    code = given[name] if name in given else _imported(name, trust_remote_code, path, line)
    implementation = code
    if inspect.isclass(code):
        try:
            implementation = code()
        except FAILURES as error:
            raise MetricError(f"{name} cannot be created without arguments: {_summary(error)}", path, line) from error
    of = getattr(implementation, "of", kind)
    bounds = _bounds(name, getattr(implementation, "bounds", (-math.inf, math.inf)), path, line)
    if of not in get_args(Kind):
        raise UnknownName(f"kind of answers in `of` of {name}", str(of), get_args(Kind), path, line)
    identity = f"{name.removeprefix(PYTHON)}#{source_digest(code)}"
    if hasattr(implementation, "statistics") and hasattr(implementation, "value"):
        return PythonRows(name, of, implementation, identity, bounds)
    if hasattr(implementation, "score"):
        return PythonScore(name, of, implementation, identity, bounds)
    if not callable(implementation):
        raise MetricError(f"{name} has none of `__call__`, `score`, and `statistics` with `value`", path, line)
    of_example = partial(_value_of, name, implementation, bounds)
    return ExampleMean(name, of, of_example, bounds, proportion=bounds == (0.0, 1.0), rule=identity)


@dataclass(frozen=True)
class PythonRows:
    """A `Metric` implemented by a user's class with `statistics` and `value`."""

    name: str
    of: Kind
    implementation: Any
    identity: str
    bounds: tuple[float, float]
    proportion: bool = False

    def check(self, predictions: Sequence[AnyPrediction]) -> None:
        """Do nothing, because external code is only called with real answers."""

    def statistics(self, predictions: Sequence[AnyPrediction]) -> Statistics:
        """A row per example; raises `MetricError` if the class does not return as many finite rows."""
        found = _called(self.name, self.implementation.statistics, predictions)
        try:
            rows = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise MetricError(f"`statistics` of {self.name} returns no array of numbers: {error}") from error
        if rows.ndim != 2 or len(rows) != len(predictions):
            expected = f"({len(predictions)}, d), one row per example"
            raise MetricError(f"`statistics` of {self.name} returns the shape {rows.shape} instead of {expected}")
        if not np.isfinite(rows).all():
            row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise MetricError(f"`statistics` of {self.name} is not finite for example {predictions[row].id!r}")
        _within(f"`value` of {self.name}", float(self.value(rows.sum(axis=0))), self.bounds)
        return Statistics.of_examples(predictions, rows)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., d) -> (...)."""
        try:
            found = np.asarray(self.implementation.value(totals.copy()), dtype=np.float64)
        except FAILURES as error:
            raise MetricError(f"`value` of {self.name} failed: {_summary(error)}") from error
        if found.shape != totals.shape[:-1]:
            raise MetricError(
                f"`value` of {self.name} returns the shape {found.shape} for totals of the shape {totals.shape}; "
                f"it must be {totals.shape[:-1]}"
            )
        return found

    def signature(self, predictions: Sequence[AnyPrediction]) -> str:  # noqa: ARG002
        """The name and a digest of the source code."""
        return self.identity


@dataclass(frozen=True)
class PythonScore:
    """A `CorpusMetric` implemented by a user's class with `score`."""

    name: str
    of: Kind
    implementation: Any
    identity: str
    bounds: tuple[float, float]

    def check(self, predictions: Sequence[AnyPrediction]) -> None:
        """Do nothing, because external code is only called with real answers."""

    def score(self, predictions: Sequence[AnyPrediction]) -> float:
        """The value for these predictions; raises `MetricError` if the class does not return a finite number."""
        found = _number(f"`score` of {self.name}", _called(self.name, self.implementation.score, predictions), "")
        return _within(f"`score` of {self.name}", found, self.bounds)

    def signature(self, predictions: Sequence[AnyPrediction]) -> str:  # noqa: ARG002
        """The name and a digest of the source code."""
        return self.identity


def source_digest(code: Any) -> str:
    """A digest of the source code of a function or class, or of its bytecode if the source is unknown.

    The digest includes base classes, and default arguments, captured variables and attributes that are plain values,
    functions or classes, but no other globals. For a lambda, bytecode is used, since a line may contain several.
    """
    return hashlib.sha256("\n".join(_described(code, {})).encode(errors="backslashreplace")).hexdigest()[:8]


def _described(value: Any, seen: dict[int, Any], *, has_source: bool = False) -> Iterator[str]:
    """Descriptions of everything that can change the results of code.

    Args:
        value: a function, a class, or a value in one of them.
        seen: values that were described before, by identity.
        has_source: whether the value belongs to a class whose source is described.
    """
    value = getattr(value, "__func__", value)  # static methods and class methods
    value = value.fget if isinstance(value, property) else value
    if value is None or isinstance(value, str | bytes | int | float | bool):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen[id(value)] = value
    held: Iterable[Any] = ()
    if inspect.isclass(value):
        if value.__module__.partition(".")[0] in sys.stdlib_module_names:
            return
        source = _source(value)
        yield from source
        members = [each for name, each in vars(value).items() if inspect.isroutine(each) or not name.startswith("__")]
        for each in members:
            yield from _described(each, seen, has_source=bool(source))
        held = value.__bases__
    elif inspect.isfunction(value):
        if not has_source:
            yield from _source(value) or _bytecode(value.__code__)
        captured = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        held = (*captured, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    elif isinstance(value, Mapping):
        held = [part for item in value.items() for part in item]
    elif isinstance(value, list | tuple):
        held = value
    elif isinstance(value, set | frozenset):
        held = sorted(value, key=repr)
    for each in held:
        yield from _described(each, seen)


def _source(code: Any) -> list[str]:
    """The source code of a function or class; empty if it is unknown, and for lambdas."""
    try:
        return [] if code.__name__ == "<lambda>" else [inspect.getsource(code)]
    except (OSError, TypeError):
        return []


def _bytecode(code: CodeType) -> list[str]:
    constants = [each for each in code.co_consts if not inspect.iscode(each)]
    inner = [word for each in code.co_consts if inspect.iscode(each) for word in _bytecode(each)]
    return [f"{code.co_qualname} {code.co_code.hex()} {code.co_names}", repr(constants), *inner]


def python_hint(name: str) -> str:
    """A hint for a name that looks like a function in a module or Python file; empty for other names."""
    module, colon, function = name.removeprefix(PYTHON).removesuffix("=").rpartition(":")
    if not colon or not all(part.isidentifier() for part in (*module.removesuffix(".py").split("."), function)):
        return ""
    return f"a metric in Python is written `{PYTHON}{module.removesuffix('.py')}:{function}`"


def _imported(name: str, trust_remote_code: bool, path: Path | None, line: int | None) -> Any:
    """Import a function or class by name, from Python's path or the current folder."""
    module_name, _, qualified = name.removeprefix(PYTHON).partition(":")
    if not module_name or not qualified:
        raise MetricError(f"{name}: a metric in Python is written `python:module:function`", path, line)
    if not trust_remote_code:
        raise MetricError(f"{name} {UNTRUSTED}", path, line)
    if not {"", str(Path.cwd())} & {*sys.path}:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except FAILURES as error:
        missing = (
            isinstance(error, ModuleNotFoundError) and module_name.split(".")[0] == (error.name or "").split(".")[0]
        )
        where = "; modules are searched for on Python's path and in the current folder" if missing else ""
        hint = f"; {python_hint(name)}" if module_name.endswith(".py") else where
        raise MetricError(f"{name}: the module cannot be imported: {_summary(error)}{hint}", path, line) from error
    found: Any = module
    for part in qualified.split("."):
        if not hasattr(found, part):
            known = [each for each, value in vars(found).items() if inspect.isfunction(value) or inspect.isclass(value)]
            raise UnknownName(f"function or class of {module_name}", part, known, path, line)
        found = getattr(found, part)
    try:
        code_name(found)
    except MetricError as error:
        raise MetricError(f"{name}: {error.message}", path, line) from error
    return found


def _bounds(name: str, bounds: Any, path: Path | None, line: int | None) -> tuple[float, float]:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError) as error:
        raise MetricError(f"`bounds` of {name} must be two numbers, not {bounds!r:.80}", path, line) from error
    if not low < high:
        raise MetricError(
            f"`bounds` of {name} must be its lowest and its highest value, not {bounds!r:.80}", path, line
        )
    return low, high


def _value_of(
    name: str, function: Callable[[Any], Any], bounds: tuple[float, float], prediction: AnyPrediction
) -> float:
    """The value that a function returns for a prediction; a `MetricError` names the example."""
    where = f" for example {prediction.id!r}"
    try:
        found = function(prediction)
    except FAILURES as error:
        raise MetricError(f"{name} failed{where}: {_summary(error)}") from error
    return _within(name, _number(name, found, where), bounds, where)


def _within(name: str, value: float, bounds: tuple[float, float], where: str = "") -> float:
    """The value; raises `MetricError` if it exceeds the bounds by more than rounding."""
    low, high = bounds
    if value < low - ROUNDING * abs(low) - ROUNDING or value > high + ROUNDING * abs(high) + ROUNDING:
        raise MetricError(f"{name} returns {value:g}{where}, but its `bounds` are {low:g} and {high:g}")
    return value


def _number(name: str, found: Any, where: str) -> float:
    """The value as a float; raises `MetricError` if it is not a finite number."""
    is_number = isinstance(found, bool | int | float | np.bool_ | np.integer | np.floating)
    try:
        value = float(found) if is_number else math.nan
    except OverflowError:  # an integer beyond the largest float
        value = math.inf
    if not math.isfinite(value):
        described = "an integer that is too large" if isinstance(found, int) else f"{found!r:.80}"
        raise MetricError(f"{name} returns {described}{where}; a metric returns a finite number")
    return value


def _called(name: str, method: Callable[[Any], Any], predictions: Sequence[AnyPrediction]) -> Any:
    """The result of a method of a user's class; a `MetricError` names the first example that fails by itself.

    The method is called with a tuple, so that it cannot change the order of the examples.
    """
    try:
        return method(tuple(predictions))
    except FAILURES as error:
        alone = next((each for each in predictions if _fails(method, [each])), None)
        where = f"{len(predictions)} examples" if alone is None else f"example {alone.id!r}"
        raise MetricError(f"`{method.__name__}` of {name} failed for {where}: {_summary(error)}") from error


def _fails(method: Callable[[Any], Any], predictions: Sequence[AnyPrediction]) -> bool:
    try:
        method(tuple(predictions))
    except FAILURES:
        return True
    return False


def _summary(error: BaseException) -> str:
    """A one-line description of an error in external code."""
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
