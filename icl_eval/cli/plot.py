"""`icl-eval plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from icl_eval.cli import options
from icl_eval.cli.report import fits_by_size, labels_of, results_of
from icl_eval.cli.terminal import remark
from icl_eval.config import RESULTS, Option
from icl_eval.errors import RunError

Kind = Literal["curves", "sizes", "differences"]


@options.takes()
def plot(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or of sweeps.")],
    *,
    out: Annotated[
        Path,
        Option("File to write: .pdf, .png or .svg.", RESULTS, "FILE", flags=("--out", "-o")),
    ],
    kind: Annotated[
        Kind, Option("Scores by shots, scores by model size, or differences of two runs.", RESULTS)
    ] = "curves",
) -> None:
    """Plot learning curves, scores by model size or differences.

    Figures have the width of a column of a paper. This needs matplotlib.
    """
    from icl_eval.reports import figures
    from icl_eval.reports.curves import by_size, curves_of

    figures.check_format(out)
    if kind == "differences":
        from icl_eval.analysis.compare import compare

        if len(folders) != 2:
            raise RunError(f"a plot of differences needs two runs, not {len(folders)}")
        found = compare(folders[0], folders[1])
        names = [manifest.model_name for manifest in (found.one, found.other)]
        names = names if len({*names}) == 2 else [folder.name for folder in folders]
        figure = figures.difference_figure(found.pairs, *names)
    else:
        results = results_of(folders)
        runs = list(zip(labels_of(results), results, strict=True))
        if kind == "sizes":
            unit, tasks = by_size([(name, each.manifest, each.scores) for name, each in runs])
            figure = figures.size_figure(unit, tasks, fits_by_size(folders, unit))
        else:
            named = [(name if len(runs) > 1 else "", each) for name, each in runs]
            figure = figures.curve_figure([curve for name, each in named for curve in curves_of(each.scores, name)])
    figures.save(figure, out)
    remark(f"plot: {out}")
