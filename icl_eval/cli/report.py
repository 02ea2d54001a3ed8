"""`icl-eval report`, and the reports that other commands write into the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import remark
from icl_eval.config import RESULTS, Option
from icl_eval.errors import IclEvalError, RunError

if TYPE_CHECKING:
    from icl_eval.results.result import Comparison, Result, Sweep
    from icl_eval.results.scaling import ScalingFit

NAME = "report.html"


@options.takes()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or of sweeps.")],
    *,
    out: Annotated[
        Path | None,
        Option(
            "File to write. Default: report.html in the folder of a single run, otherwise in this folder.",
            RESULTS,
            "FILE",
            flags=("--out", "-o"),
        ),
    ] = None,
) -> None:
    """Write a page with scores, curves, differences and items.

    The page is a single HTML file that you can open from disk and share. No model is loaded.
    """
    results = results_of(folders)
    only = out is None and len({*folders}) == 1
    path = folders[0] / NAME if only else out or Path(NAME)
    write_report(results, path)
    remark(f"report: {path}")


def results_of(folders: Sequence[Path]) -> list[Result]:
    """The results of runs and of the models of sweeps.

    Raises:
        RunError: a folder is neither a run nor a sweep, or a run is not finished.
    """
    from icl_eval.analysis.rescore import rescore, rescore_sweep
    from icl_eval.results.members import is_sweep

    results: list[Result] = []
    for folder in dict.fromkeys(folders):
        results += rescore_sweep(folder).results if is_sweep(folder) else [rescore(folder)]
    return results


def labels_of(results: Sequence[Result]) -> list[str]:
    """Short, distinct labels for results."""
    from icl_eval.reports.report import labels
    from icl_eval.results.members import label

    manifests = [(each.manifest, each.folder or Path()) for each in results]
    return labels([(label(each.model_name, each.config.revision), folder) for each, folder in manifests])


def fits_by_size(folders: Sequence[Path], unit: str, *, intervals: bool = True) -> Sequence[ScalingFit]:
    """Fits of scores over model sizes in a unit of charts; empty if there are too few models or no fit is possible."""
    from icl_eval.analysis.scaling import fit_scaling

    try:
        return fit_scaling(folders, "steps" if unit == "training step" else "parameters", intervals=intervals).fits
    except IclEvalError:
        return ()


def write_into_folder(result: Result | Sweep) -> None:
    """Write the report of a run or a sweep into its folder, or print a note if it cannot be written."""
    from icl_eval.results.result import Sweep

    if result.folder is not None:
        _try_to_write(result.results if isinstance(result, Sweep) else [result], result.folder / NAME)


def write_comparison(found: Comparison, one: Path, other: Path) -> None:
    """Write the report of two runs and their differences into the folder of the second."""
    from icl_eval.results.result import Result
    from icl_eval.results.run_config import slug

    alone = {run: [each.line for each in found.unpaired if each.run == run] for run in ("one", "other")}
    first = Result((*(pair.one for pair in found), *alone["one"]), found.one, one)
    second = Result((*(pair.other for pair in found), *alone["other"]), found.other, other)
    path = other / f"compared-with-{slug([one.resolve().name])}.html"
    if _try_to_write([first, second], path, found):
        remark(f"report: {path}")


def _try_to_write(results: Sequence[Result], path: Path, comparison: Comparison | None = None) -> bool:
    """Write a report for results that are already printed; print a note instead of raising an error."""
    try:
        write_report(results, path, comparison)
    except RunError as error:
        remark(f"note: the report was not written: {error}")
        return False
    return True


def write_report(results: Sequence[Result], path: Path, comparison: Comparison | None = None) -> None:
    """Write the report of results that have folders, with the differences between every two of them.

    Raises:
        RunError: a file of a run is damaged, or the report cannot be written.
    """
    from icl_eval.analysis.compare import compare
    from icl_eval.reports.curves import by_size
    from icl_eval.reports.items import ReportRun
    from icl_eval.reports.report import report as page
    from icl_eval.results.files import replace_file
    from icl_eval.results.outcomes import outcomes
    from icl_eval.results.prompt_texts import NAME as PROMPTS
    from icl_eval.results.prompt_texts import PromptTexts

    stored = [(result, result.folder) for result in results if result.folder is not None]
    runs = [
        ReportRun(
            name,
            result.manifest,
            result.scores,
            outcomes(folder, result.manifest),
            folder,
            PromptTexts(folder) if (folder / PROMPTS).is_file() else None,
        )
        for name, (result, folder) in zip(labels_of([each for each, _ in stored]), stored, strict=True)
    ]
    pairs = {}
    for one, other in combinations(runs, 2):
        try:
            found = comparison or compare(one.folder, other.folder)
        except RunError:  # they have no score in common
            continue
        pairs[one.label, other.label] = found.pairs
    unit, sized = by_size([(run.label, run.manifest, run.scores) for run in runs])
    fits = fits_by_size([run.folder for run in runs], unit, intervals=False) if sized and len(runs) > 2 else ()
    replace_file(path, [page(runs, pairs, fits)], end="")
