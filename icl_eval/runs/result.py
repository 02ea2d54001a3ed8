"""What `evaluate` returns: score lines that print as the command line's table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.runs.folder import Manifest
from icl_eval.runs.scores import Score

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Result:
    """The scores of a run.

    Attributes:
        scores: one line per task, prompt, shots, normalisation and metric; then the suites' averages.
        manifest: what was asked, of what, and with what.
        folder: where the run is kept; None if it was not kept.
    """

    scores: tuple[Score, ...]
    manifest: Manifest
    folder: Path | None = None

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def score(self, task: str, shots: int | None = None, metric: str | None = None) -> Score:
        """The first line of a task (with these shots, of this metric).

        Raises:
            UnknownName: no line is of this task, these shots or this metric.
        """
        of_task = [line for line in self.scores if line.task == task]
        if not of_task:
            raise UnknownName("task of this run", task, {line.task for line in self.scores})
        of_shots = [line for line in of_task if shots is None or line.shots == shots]
        if not of_shots:
            raise UnknownName(f"number of shots of {task}", str(shots), {str(line.shots) for line in of_task})
        found = [line for line in of_shots if metric is None or line.metric == metric]
        if not found:
            raise UnknownName(f"metric of {task}", str(metric), {line.metric for line in of_shots})
        return found[0]

    def table(self, format: str = "table") -> str:
        """The lines as `table` (for a terminal), `md`, `csv` or `json`."""
        from icl_eval.reports import render

        return render(self.scores, self.manifest, format)

    def to_frame(self) -> pandas.DataFrame:
        """The lines as a data frame; needs pandas."""
        import pandas

        return pandas.DataFrame([line.stored() for line in self.scores])

    def __str__(self) -> str:
        return self.table()
