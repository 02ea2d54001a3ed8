"""The values that `evaluate`, `sweep`, `compare` and `fit_scaling` return, which print as tables.

`reports` takes parts of them and does not import this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from icl_eval.errors import ModelError, RunError, UnknownName, counted
from icl_eval.results.manifest import Manifest
from icl_eval.results.members import Member, label
from icl_eval.results.pair import Pair, Unpaired, entries
from icl_eval.results.records import Failure
from icl_eval.results.scaling import ScalingFit
from icl_eval.results.score import Score
from icl_eval.results.signal import entry, key_of, signals

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from icl_eval.reports import View


class TableOptions(TypedDict, total=False):
    """Which parts of a table are shown. JSON and CSV always contain everything.

    Attributes:
        width: width in characters, 100 by default.
        columns: names of columns, or `all`; by default as many useful columns as fit. `+NAME` adds one to the default.
        categories: whether to show the scores of all categories, even for a task with many.
        signatures: whether to show the signature of each score.
    """

    width: int
    columns: Sequence[str]
    categories: bool
    signatures: bool


class _Tabular(ABC):
    """A value that prints as a table: as text, and as HTML in a notebook."""

    @abstractmethod
    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The table as `table` (for a terminal), `md`, `latex`, `html`, `csv` or `json`."""

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return self.table("html")


@dataclass(frozen=True, repr=False)
class Result(_Tabular):
    """The scores of a run.

    Attributes:
        scores: one for each task, prompt, number of shots, normalisation and metric, then the averages of suites.
        manifest: the configuration, the model and the versions.
        folder: the run folder; None if the run was not stored.
    """

    scores: tuple[Score, ...]
    manifest: Manifest
    folder: Path | None = None

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tasks without scores, with the reasons."""
        return self.manifest.failures

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each task without scores."""
        return tuple(map(str, self.failures))

    def score(
        self,
        task: str,
        shots: int | None = None,
        metric: str | None = None,
        *,
        category: str = "",
        average: str | None = None,
    ) -> Score:
        """The first score that matches.

        Args:
            task: name of a task or suite.
            shots: number of demonstrations; any by default.
            metric: name of the metric; any by default.
            category: a category of the task; all examples by default.
            average: `macro` for the mean over categories, `macro` or `micro` for a suite; any by default.

        Raises:
            UnknownName: no score has this task, number of shots, metric, category or average.
            RunError: the task failed.
        """
        of_task = [line for line in self.scores if line.task == task]
        if not of_task and (failed := [each for each in self.failures if each.task == task]):
            raise RunError(str(failed[0]))
        if not of_task:
            raise UnknownName("task of this run", task, {line.task for line in self.scores})
        of_shots = [line for line in of_task if shots is None or line.shots == shots]
        if not of_shots:
            raise UnknownName(f"number of shots of {task}", str(shots), {str(line.shots) for line in of_task})
        found = [line for line in of_shots if metric is None or line.metric == metric]
        if not found:
            raise UnknownName(f"metric of {task}", str(metric), {line.metric for line in of_shots})
        of_category = [line for line in found if line.category == category]
        if not of_category:
            raise UnknownName(f"category of {task}", category, {line.category for line in found if line.category})
        if average is None:
            return of_category[0]
        averages = [line for line in of_category if line.average == average]
        if not averages:
            raise UnknownName(f"average of {task}", average, {line.average for line in of_category if line.average})
        return averages[0]

    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The table as `table` (for a terminal), `md`, `latex`, `html`, `csv` or `json`. Options are `TableOptions`."""
        from icl_eval.reports import render

        return render(self.scores, self.manifest, format, _view(options))

    def to_frame(self) -> pandas.DataFrame:
        """The lines of the table as a data frame. Requires pandas."""
        return _frame([line.stored() for line in self.scores])

    def examples(self, *, prompts: bool = False) -> pandas.DataFrame:
        """A data frame with a row for every example in every cell. Requires pandas.

        Columns are the cell, the id, the options (`names`), the `chosen` option or generated text, the right answers
        (`gold`), whether the answer is `correct`, the `margin` of the best right option over the best wrong one and the
        `loss` in nats, the probabilities of options by normalisation (`p_token`, ...), and the generated `texts`.

        Args:
            prompts: whether to add a column `prompt_text` with the exact text before the answer.

        Raises:
            RunError: the run was not stored in a folder, or a file in it is damaged.
        """
        from icl_eval.results.outcomes import outcomes
        from icl_eval.results.prompt_texts import PromptTexts

        if self.folder is None:
            raise RunError("the examples of this run were not stored: give `out` or `keep`")
        texts = PromptTexts(self.folder) if prompts else None
        rows = []
        for each in outcomes(self.folder, self.manifest):
            row = each.row()
            rows.append({**row, "prompt_text": texts.prompt(each.example)} if texts else row)
        return _frame(rows)

    def __repr__(self) -> str:
        tasks = counted(len({line.task for line in self.scores if not line.of_suite}), "task")
        kept = "not kept" if self.folder is None else str(self.folder)
        return f"Result({self.manifest.model_name}: {counted(len(self.scores), 'score')}, {tasks}, {kept})"

    def plot(self) -> Figure:
        """A matplotlib figure of the learning curves.

        Raises:
            RunError: there are no learning curves, or matplotlib is not installed.
        """
        from icl_eval.reports import curve_figure, curves_of

        return curve_figure(curves_of(self.scores, self.manifest.model_name))


@dataclass(frozen=True, repr=False)
class Comparison(_Tabular):
    """The paired differences of two runs.

    Attributes:
        pairs: one for each score that both runs have, in the order of the first run.
        unpaired: the scores that were not compared.
        one, other: the manifests of the two runs.
        folders: paths of the two run folders.
    """

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    one: Manifest
    other: Manifest
    folders: tuple[str, str] = ("", "")

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def lines(self) -> tuple[Pair | Unpaired, ...]:
        """The lines with a difference, then those without."""
        return (*self.pairs, *self.unpaired)

    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The table as `table` (for a terminal), `md`, `latex`, `html`, `csv` or `json`. Options are `TableOptions`."""
        from icl_eval.reports import render_comparisons

        return render_comparisons([self._parts], format, _view(options))

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.pairs, self.unpaired, (self.one, self.other), self.folders

    def to_frame(self) -> pandas.DataFrame:
        """The lines as a data frame, with the scores that were not compared last. Requires pandas."""
        return _frame(entries(self.lines, self.one.model_name, self.other.model_name))

    def __repr__(self) -> str:
        names = f"{self.one.model_name} and {self.other.model_name}"
        unpaired = counted(len(self.unpaired), "score")
        return f"Comparison({names}: {counted(len(self.pairs), 'difference')}, {unpaired} not compared)"

    def plot(self) -> Figure:
        """A matplotlib figure of the differences with their intervals.

        Raises:
            RunError: there are no differences, or matplotlib is not installed.
        """
        from icl_eval.reports import difference_figure

        return difference_figure(self.pairs, self.one.model_name, self.other.model_name)


@dataclass(frozen=True, repr=False)
class Comparisons(_Tabular):
    """The paired differences of several runs from the first. Iterates over the `Comparison` of each other run."""

    comparisons: tuple[Comparison, ...]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The tables of all comparisons; in `csv` one list of lines, in `json` a list `comparisons`."""
        from icl_eval.reports import render_comparisons

        return render_comparisons([each._parts for each in self.comparisons], format, _view(options))

    def to_frame(self) -> pandas.DataFrame:
        """The lines of all comparisons as a data frame. Requires pandas."""
        return _frame(
            [
                line
                for each in self.comparisons
                for line in entries(each.lines, each.one.model_name, each.other.model_name)
            ]
        )

    def __repr__(self) -> str:
        return f"Comparisons({', '.join(map(repr, self.comparisons))})"


@dataclass(frozen=True, repr=False)
class Sweep(_Tabular):
    """The scores of several models on the same tasks.

    Attributes:
        results: the results of the models that could be measured, in the given order.
        failures: the other models; their attribute `failed` is the reason.
        folder: the folder of the sweep; None if it was not stored.
    """

    results: tuple[Result, ...]
    failures: tuple[Member, ...] = ()
    folder: Path | None = None

    @classmethod
    def of(cls, results: Sequence[Result], members: Sequence[Member], folder: Path | None) -> Sweep:
        """Make a sweep from its results and its members, some of which may have failed.

        Raises:
            ModelError: all members failed.
        """
        failures = tuple(member for member in members if member.failed is not None)
        if not results:
            reasons = "; ".join(f"{member.label}: {member.failed}" for member in failures)
            raise ModelError(f"none of the models could be evaluated: {reasons}")
        return cls(tuple(results), failures, folder)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each model that could not be measured, and for each task without scores."""
        models = (f"{member.label} was not evaluated: {member.failed}" for member in self.failures)
        tasks = (f"{result.manifest.model_name}: {each}" for result in self.results for each in result.missing)
        return *models, *tasks

    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The table of all models; formats and options are those of `Result.table`."""
        from icl_eval.reports import render_sweep

        return render_sweep(
            [(each.manifest, each.scores) for each in self.results], self.failures, format, _view(options)
        )

    def to_frame(self) -> pandas.DataFrame:
        """The lines of all models as a data frame; its first columns identify the model. Requires pandas."""
        ratios = signals([(each.manifest, each.scores) for each in self.results])
        return _frame(
            [
                {**result.manifest.identity(), **line.stored(), **entry(ratios.get(key_of(line)))}
                for result in self.results
                for line in result
            ]
        )

    def __repr__(self) -> str:
        kept = "not kept" if self.folder is None else str(self.folder)
        return f"Sweep({counted(len(self.results), 'model')}, {len(self.failures)} failed, {kept})"

    def plot(self) -> Figure:
        """A matplotlib figure of the learning curves of all models.

        Raises:
            RunError: there are no learning curves, or matplotlib is not installed.
        """
        from icl_eval.reports import curve_figure, curves_of

        models = [(label(each.manifest.model_name, each.manifest.config.revision), each) for each in self.results]
        return curve_figure([curve for name, each in models for curve in curves_of(each.scores, name)])


@dataclass(frozen=True, repr=False)
class Scaling(_Tabular):
    """The scores of several models as functions of their size.

    Attributes:
        fits: one for each score, in the order of the smallest model.
        unfitted: a sentence for each model or score without a fit.
    """

    fits: tuple[ScalingFit, ...]
    unfitted: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ScalingFit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def table(self, format: str = "table", **options: Unpack[TableOptions]) -> str:
        """The table as `table` (for a terminal), `md`, `latex`, `html`, `csv` or `json`. Options are `TableOptions`."""
        from icl_eval.reports import render_scaling

        return render_scaling(self.fits, self.unfitted, format, _view(options))

    def to_frame(self) -> pandas.DataFrame:
        """The lines of the table as a data frame. Requires pandas."""
        return _frame([line.stored() for line in self.fits])

    def __repr__(self) -> str:
        return f"Scaling({len(self.fits)} fits, {len(self.unfitted)} without)"


def _frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """A data frame of rows.

    Raises:
        RunError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise RunError("a data frame needs pandas, which is not installed: pip install pandas") from error
    return pandas.DataFrame(rows)


def _view(options: TableOptions) -> View:
    from icl_eval.reports import View

    chosen = options.get("columns", ())
    columns = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    categories, signatures = options.get("categories", False), options.get("signatures", False)
    return View(options.get("width", View.width), columns, categories, signatures)
