"""The table of a run: scores with both uncertainties, what guessing gives, published numbers, and signatures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.references import Published, published

if TYPE_CHECKING:
    from icl_eval.runs.folder import Manifest
    from icl_eval.runs.scores import Score

Row = dict[str, str]
SHOWN_SYSTEMS = ("GPT-3 125M", "GPT-3 1.3B", "GPT-3 13B", "GPT-3 175B", "fine-tuned BERT-Large", "fine-tuned SOTA")
NUMBERS = ("shots", "score", "±", "95 %", "sd seeds", "eff.", "n", "ties", "random", "majority", *SHOWN_SYSTEMS)


def render(scores: Sequence[Score], manifest: Manifest, format: str = "table", *, width: int | None = None) -> str:
    """Score lines as text.

    Args:
        scores: the lines.
        manifest: of their run, for the heading.
        format: one of `FORMATS`.
        width: columns of the terminal; by default as wide as it takes.

    Raises:
        UnknownName: there is no such format.
    """
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    if format == "table":
        return _terminal(scores, manifest, width)
    return FORMATS[format](scores, manifest)


def _terminal(scores: Sequence[Score], manifest: Manifest, width: int | None = None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = [_row(score, manifest) for score in scores]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _columns(rows):
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=width is None)
    for row in rows:
        table.add_row(*(row.get(name, "") for name in _columns(rows)))
    text = io.StringIO()
    console = Console(file=text, width=width or 1000, color_system=None, highlight=False, markup=False)
    console.print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    return "\n".join([*_heading(manifest), "", *lines, "", *_signatures(scores), *_notes(scores, manifest)]) + "\n"


def _markdown(scores: Sequence[Score], manifest: Manifest) -> str:
    rows = [_row(score, manifest) for score in scores]
    names = _columns(rows)
    ruler = ["---:" if name in NUMBERS else "---" for name in names]
    body = [[row.get(name, "").replace("|", "\\|") for name in names] for row in rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, ruler, *body)]
    signatures = ["```", *_signatures(scores), "```"]
    return "\n".join([*_heading(manifest), "", *lines, "", *signatures, *_notes(scores, manifest)]) + "\n"


def _csv(scores: Sequence[Score], manifest: Manifest) -> str:
    text = io.StringIO()
    entries = [{"model": manifest.model_name, **_flat(score)} for score in scores]
    writer = csv.DictWriter(text, fieldnames=list(entries[0]) if entries else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def _json(scores: Sequence[Score], manifest: Manifest) -> str:
    lines = [
        {**score.stored(), "published": [_published_entry(each) for each in _published(score)]} for score in scores
    ]
    document = {"model": manifest.model_name, "fingerprint": manifest.model_fingerprint, "note": manifest.note}
    return json.dumps({**document, "scores": lines}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Score], Manifest], str]] = {
    "table": _terminal,
    "md": _markdown,
    "json": _json,
    "csv": _csv,
}


def _row(score: Score, manifest: Manifest) -> Row:
    several_prompts = len({record.prompt for record in manifest.tasks}) > 1
    row = {
        "task": score.task + (" (sample)" if _is_sample(score) else ""),
        **({"prompt": score.prompt} if several_prompts else {}),
        "metric": score.metric,
        "by": score.normalize,
        "split": score.split,
        "shown": score.shown,
        "shots": str(score.shots),
        "score": _number(score.value),
        "±": _number(score.standard_error),
        "95 %": f"{_number(score.low)} to {_number(score.high)}" if math.isfinite(score.high - score.low) else "",
        "sd seeds": _number(score.seed_sd),
        "eff.": f"{score.effective_shots:.1f}",
        "n": str(score.units),
        "ties": str(score.ties),
        "random": _number(score.random),
        "majority": _number(score.majority),
    }
    for each in _published(score):
        if each.system in SHOWN_SYSTEMS:  # the public split comes first, the test server's number after it
            row.setdefault(each.system, _number(each.value))
    return row


def _published(score: Score) -> list[Published]:
    """Numbers by the row's own protocol to show beside a score; none beside sample data or other splits."""
    if score.reference is None or _is_sample(score) or score.split or score.shown:
        return []
    return [each for each in published(score.reference, score.metric, score.shots) if each.protocol is None]


def _is_sample(score: Score) -> bool:
    """Whether the bundled sample has a part in it, as in `sample` and `sample+memory`."""
    return "sample" in score.data.split("+")


def _columns(rows: Sequence[Row]) -> list[str]:
    """Columns in which some row has something to show, references last."""
    order = dict.fromkeys(name for row in rows for name in row if name not in SHOWN_SYSTEMS)
    names = [*order, *SHOWN_SYSTEMS]
    return [name for name in names if any(row.get(name) for row in rows)]


def _heading(manifest: Manifest) -> list[str]:
    words = manifest.model_words.replace("|", ", ")
    heading = [f"model {manifest.model_name} ({words}), data {manifest.ask.data}"]
    computed = f"prefixes are not all shared, because {manifest.sharing}" if manifest.sharing else None
    return [*heading, *(f"note: {note}" for note in (manifest.note, computed) if note)]


def _signatures(scores: Sequence[Score]) -> list[str]:
    return [f"{score.task} {score.metric} {_uncertain(score)}  {score.signature}" for score in scores]


def _uncertain(score: Score) -> str:
    draws = f", {len(score.seeds)} draws: sd {_number(score.seed_sd)}" if score.seed_sd is not None else ""
    effective = f", effective {score.effective_shots:.1f}" if score.shortened else ""
    error = _number(score.standard_error) or "unknown"
    return f"{_number(score.value)} ± {error} ({score.shots} shots{draws}{effective})"


def _notes(scores: Sequence[Score], manifest: Manifest) -> list[str]:
    """What a score had to do without, one line for each kind of thing."""
    firsts = list({(s.task, s.prompt, s.shots): s for s in scores if s.metric != "average"}.values())
    notes = []
    if any(_published(score) for score in scores):
        notes.append(
            "GPT-3: Table H.1 on whole development sets; beside two shots or more, its few-shot setting of whatever "
            "number; fine-tuned systems: on test sets"
        )
    if short := [score for score in firsts if score.shortened]:
        total = sum(score.shortened for score in short)
        notes.append(
            f"{total} prompts in {len(short)} cells hold fewer demonstrations than asked, because the window is "
            f"{manifest.window} tokens; `eff.` is the mean number they hold"
        )
    if cut := sum(score.truncated for score in firsts):
        notes.append(f"{cut} queries were cut at their start to fit the window, as --overflow truncate asked")
    if tied := sum(score.ties for score in firsts):
        notes.append(f"{tied} answers had several options of equal score; the first of them was taken")
    return ["", *notes] if notes else []


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _flat(score: Score) -> dict[str, object]:
    return {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in score.stored().items()
    }


def _published_entry(each: Published) -> dict[str, object]:
    return {name: getattr(each, name) for name in ("system", "value", "shots", "split", "source")}
