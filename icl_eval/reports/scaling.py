"""The table of scaling fits: the law of each score, and its prediction for the largest model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.reports.columns import Row, number
from icl_eval.reports.page import DEFAULT, Page, View
from icl_eval.reports.svg import short_number
from icl_eval.reports.table import as_json, comma_separated
from icl_eval.results.scaling import UNITS

if TYPE_CHECKING:
    from icl_eval.results.scaling import Interval, ScalingFit

NOTES = {
    "power law": "power law: loss = irreducible + A x^-exponent; of a perplexity, loss is its logarithm",
    "logistic": "logistic: the odds of a score above guessing grow as x^exponent",
    "logistic in loss": "logistic in loss: the score is a sigmoid of the loss of the right answers in bits or nats per "
    "byte, whose power law has this exponent",
}
INTERVALS = "95 %, interval: bootstrap over examples, the same for all models; not over training runs of a model"


def render_scaling(
    fits: Sequence[ScalingFit], unfitted: Sequence[str] = (), format: str = "table", view: View = DEFAULT
) -> str:
    """Scaling fits as text.

    Args:
        fits: the fits.
        unfitted: a sentence for each model or score without a fit.
        format: one of `SCALING_FORMATS`.
        view: what is shown; JSON and CSV always contain everything.

    Raises:
        UnknownName: the format or a column does not exist.
    """
    if format not in SCALING_FORMATS:
        raise UnknownName("format", format, SCALING_FORMATS)
    return SCALING_FORMATS[format](fits, unfitted, view)


def _csv(fits: Sequence[ScalingFit], unfitted: Sequence[str], view: View) -> str:  # noqa: ARG001
    flat = ({k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in each.stored().items()} for each in fits)
    return comma_separated(list(flat))


def _json(fits: Sequence[ScalingFit], unfitted: Sequence[str], view: View) -> str:  # noqa: ARG001
    return as_json({"fits": [each.stored() for each in fits], "without_fit": list(unfitted)})


SCALING_FORMATS: Mapping[str, Callable[[Sequence[ScalingFit], Sequence[str], View], str]] = {
    "table": lambda fits, unfitted, view: _page(fits, unfitted).for_terminal(view),
    "md": lambda fits, unfitted, view: _page(fits, unfitted).in_markdown(view),
    "latex": lambda fits, unfitted, view: _page(fits, unfitted).in_latex(view),
    "html": lambda fits, unfitted, view: _page(fits, unfitted).in_html(view),
    "json": _json,
    "csv": _csv,
}


def _page(fits: Sequence[ScalingFit], unfitted: Sequence[str]) -> Page:
    several_prompts = len({(each.task, each.prompt) for each in fits}) > len({each.task for each in fits})
    groups = list(dict.fromkeys((each.by, each.models, each.sizes) for each in fits))
    forms = dict.fromkeys(each.law.form for each in fits)
    return Page(
        heading=[
            f"{len(models)} models by {UNITS[by]}: "
            + ", ".join(f"{model} {short_number(size)}" for model, size in zip(models, sizes, strict=True))
            for by, models, sizes in groups
        ],
        rows=[_row(each, with_prompt=several_prompts) for each in fits],
        signatures=[],
        notes=[*(NOTES[form] for form in forms), INTERVALS, *unfitted],
    )


def _row(fit: ScalingFit, *, with_prompt: bool) -> Row:
    law, held_out = fit.law.in_size, fit.held_out
    return {
        "task": fit.task,
        "prompt": fit.prompt if with_prompt else "",
        "metric": fit.metric,
        "scoring": fit.normalization,
        "shots": str(fit.shots),
        "models": str(len(fit.models)),
        "form": fit.law.form,
        "exponent": number(law.exponent),
        "95 %": _ends(fit.exponent),
        "irreducible": number(law.floor) if law.form == "power law" and law.floor else "",
        "residual": number(fit.residual),
        "held out": held_out.model if held_out else "",
        "predicted": number(held_out.predicted) if held_out else "",
        "interval": _ends(held_out.interval) if held_out else "",
        "measured": number(held_out.measured) if held_out else "",
    }


def _ends(interval: Interval | None) -> str:
    return f"{number(interval.low)} to {number(interval.high)}" if interval else ""
