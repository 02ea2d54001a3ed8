"""An answered example: which option the model ranked first, which options are right. Nothing else reaches a metric."""

from __future__ import annotations

from dataclasses import dataclass

from icl_eval.errors import MetricError


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered example, all a metric may look at; raises `MetricError` when an index names no option."""

    id: str
    options: tuple[str, ...]
    gold: tuple[int, ...]
    """Indices of the right options, at least one (ReCoRD has several)."""
    chosen: int
    """Index of the option the model ranked first."""
    cluster: str
    """Examples of one cluster are not independent (passage, schema pair); the id where there is none."""
    group: str
    """The unit that grouped metrics count (MultiRC question, AX-g pair); the id where there is none."""

    def __post_init__(self) -> None:
        if not self.gold:
            raise MetricError(f"example {self.id!r} has no right option; a metric needs at least one")
        for index in (self.chosen, *self.gold):
            if not 0 <= index < len(self.options):
                raise MetricError(f"example {self.id!r} has {len(self.options)} options and none of index {index}")
