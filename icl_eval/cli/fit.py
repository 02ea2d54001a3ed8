"""`icl-eval fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write_table
from icl_eval.config import RESULTS, Option
from icl_eval.errors import RunError

By = Literal["parameters", "steps", "tokens", "compute"]
Irreducible = Literal["auto", "yes", "no"]


@options.takes("normalizations", "metrics", "trust_remote_code")
def fit(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or of sweeps.")],
    *,
    by: Annotated[By, Option("Fit over this measure of the models.", RESULTS)] = "parameters",
    tokens: Annotated[
        str | None,
        Option(
            "Training tokens of all models, such as 3e11, or of each model, for --by tokens or compute.",
            RESULTS,
            "N|MODEL=N,...",
        ),
    ] = None,
    tokens_per_step: Annotated[
        float | None, Option("Training tokens per step, for revisions such as step1000.", RESULTS, "N")
    ] = None,
    irreducible: Annotated[
        Irreducible, Option("Fit an irreducible loss; auto does so for five or more sizes.", RESULTS)
    ] = "auto",
    format: options.Format,
    columns: list[str] | None,
    **scoring_options: Any,
) -> None:
    """Fit scores by model size, training tokens or compute.

    Power laws are fitted to losses, and sigmoids to other scores. The score of the largest model is also predicted from
    the smaller models. No model is loaded.
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
    write_table(found.table(format, **options.table_options(columns, categories=False, signatures=False)), format)


def _tokens(value: str) -> float | dict[str, float]:
    """A number of tokens, or the number for each model by name.

    Raises:
        RunError: the value has neither form.
    """
    try:
        if "=" not in value:
            return float(value)
        pairs = [word.rpartition("=") for word in value.split(",")]  # names may contain slashes and dots
        return {name.strip(): float(count) for name, _, count in pairs}
    except ValueError as error:
        raise RunError(f"--tokens takes a number such as 3e11, or MODEL=N,..., not {value!r}") from error
