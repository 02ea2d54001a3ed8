"""Names of metrics: with settings (`bleu:tokenize=zh`), rules (`exact_match@strict`) or code (`python:module:name`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, StrictStr

from icl_eval.errors import MetricError

EVALUATE, PYTHON = "evaluate:", "python:"
"""Prefixes of metrics that run code which is not part of icl-eval."""
GivenMetric = Any  # a name, a mapping of a name to its settings, a function or a class


def runs_code(name: str) -> bool:
    """Whether a metric runs code that is not part of icl-eval."""
    return name.startswith((EVALUATE, PYTHON))


def metric_name(base: str, settings: Mapping[str, str]) -> str:
    """The name of a metric with settings in alphabetical order, such as `bleu:lowercase=true:tokenize=zh`."""
    return ":".join([base, *(f"{name}={settings[name]}" for name in sorted(settings))])


def split_metric_name(name: str) -> tuple[str, dict[str, str]]:
    """The name of a metric without settings, and its settings; a setting without `=` has an empty value."""
    base, *words = name.split(":")
    parts = [word.partition("=") for word in words]
    return base, {setting.strip(): value.strip() for setting, _, value in parts}


def split_extraction(name: str) -> tuple[str, str | None]:
    """The parts of a name such as `exact_match@strict`: the metric, and its extraction rules or None."""
    base, mark, rules = name.partition("@")
    return (base, rules) if mark else (name, None)


def code_name(code: Any) -> str:
    """The name `python:module:qualified name` of a metric that is a function or class.

    Raises:
        MetricError: the value is not a function or class.
    """
    if not (inspect.isfunction(code) or inspect.isclass(code)):
        raise MetricError(f"a metric is a name, a function or a class, not {code!r:.80}")
    return f"{PYTHON}{code.__module__ or '__main__'}:{code.__qualname__}"


def named_metrics(metrics: Iterable[GivenMetric]) -> tuple[list[Any], dict[str, Any]]:
    """The names of metrics, and a mapping of names to those that are functions or classes.

    Raises:
        MetricError: a value is not a metric, or two different functions have the same name.
    """
    names, code = list[Any](), dict[str, Any]()
    for each in [metrics] if isinstance(metrics, str | Mapping) else metrics:
        if isinstance(each, str | Mapping):
            names.append(each)
            continue
        names.append(code_name(each))
        if code.setdefault(names[-1], each) is not each:
            raise MetricError(f"two different metrics are named {names[-1]!r}; rename one")
    return names, code


def _as_metric_name(value: object) -> object:
    """The normalised name of a metric in a task file, `bleu:tokenize=zh` or `{bleu: {tokenize: zh}}`."""
    if isinstance(value, str) and not runs_code(value):
        base, rules = split_extraction(value)
        return metric_name(*split_metric_name(base)) + ("" if rules is None else f"@{rules}")
    if not isinstance(value, Mapping):
        return value
    named, settings = next(iter(value.items()), (None, None))
    if len(value) != 1 or not isinstance(settings, Mapping) or not settings:
        raise ValueError("a metric with settings is written `{bleu: {tokenize: zh}}`, as one name with its settings")
    return metric_name(str(named), {str(name): _as_word(setting) for name, setting in settings.items()})


def _as_word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


MetricName = Annotated[StrictStr, BeforeValidator(_as_metric_name)]
