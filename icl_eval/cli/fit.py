"""`icl-eval fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write
from icl_eval.config import RESULTS, Option
from icl_eval.errors import RunError

By = Literal["parameters", "steps", "tokens", "compute"]
Irreducible = Literal["auto", "yes", "no"]


@options.takes("normalizations", "metrics", "trust_remote_code")
def fit(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or of sweeps.")],
    *,
    by: Annotated[By, Option("Measure of a model's size.", RESULTS)] = "parameters",
    tokens: Annotated[
        str | None,
        Option(
            "Training tokens of all models or of each, such as 3e11, for --by tokens or compute.",
            RESULTS,
            "N|MODEL=N,...",
        ),
    ] = None,
    tokens_per_step: Annotated[
        float | None, Option("Training tokens of a step, for revisions such as step1000.", RESULTS, "N")
    ] = None,
    irreducible: Annotated[
        Irreducible, Option("Fit an irreducible loss; auto fits it for five or more sizes.", RESULTS)
    ] = "auto",
    format: options.Format,
    columns: list[str] | None,
    **scoring_options: Any,
) -> None:
    """Fit scores by model size, training tokens or compute.

    Losses follow power laws and scores sigmoids. The largest model is also predicted from the smaller ones. No model is
    loaded.
    """
    from icl_eval.analysis.scaling import fit_scaling

    found = fit_scaling(
        folders,
        by,
        tokens=None if tokens is None else _tokens(tokens),
        tokens_per_step=tokens_per_step,
        irreducible={"auto": None, "yes": True, "no": False}[irreducible],
        **options.read(scoring_options),
    )
    write(found.table(format, **options.seen(columns, categories=False, signatures=False)), end="")


def _tokens(value: str) -> float | dict[str, float]:
    """A number of tokens, or one for each name of a model.

    Raises:
        RunError: it is neither.
    """
    try:
        if "=" not in value:
            return float(value)
        pairs = [word.rpartition("=") for word in value.split(",")]  # names may hold slashes and dots
        return {name.strip(): float(count) for name, _, count in pairs}
    except ValueError as error:
        raise RunError(f"--tokens takes a number such as 3e11, or MODEL=N,..., not {value!r}") from error
