"""Metrics with settings: `bleu:tokenize=zh` is `bleu` with its setting `tokenize` at `zh`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics.prediction import Kind
from icl_eval.metrics.statistics import Metric
from icl_eval.tasks.definition import metric_name

SWITCH = ("false", "true")


@dataclass(frozen=True)
class MetricFamily:
    """A metric that takes settings."""

    name: str
    settings: Mapping[str, Sequence[str]]
    """The values that each setting may have, written as in a task file."""
    make: Callable[[str, Mapping[str, str]], Metric[Any]]
    """The metric of a full name and the settings in it."""
    required: str | None = None
    """A setting without a default."""
    of: Kind = "text"

    def configured(self, settings: Mapping[str, str], path: Path | None = None, line: int | None = None) -> Metric[Any]:
        """The metric with these settings, and its default for every other one.

        Raises, for the place if one is given:
            UnknownName: there is no such setting, or no such value of it.
            MetricError: a setting without a default is missing.
        """
        for name, value in settings.items():
            if name not in self.settings:
                raise UnknownName(f"setting of {self.name}", name, self.settings, path, line)
            if value not in self.settings[name]:
                raise UnknownName(f"value of {self.name}'s `{name}`", value, self.settings[name], path, line)
        if self.required is not None and self.required not in settings:
            values = ", ".join(self.settings[self.required])
            example = f"`{self.name}: {{{self.required}: {self.settings[self.required][-1]}}}`"
            raise MetricError(f"{self.name} needs a {self.required}, as in {example}; there is {values}", path, line)
        return self.make(metric_name(self.name, settings), settings)
