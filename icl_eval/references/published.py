"""Published numbers to compare scores with: GPT-3 in eight sizes, fine-tuned systems of its time, open models.

A task or suite file refers to a row, such as `gpt3:RTE`. Numbers are those of Brown et al. 2020 (arXiv:2005.14165v4) as
printed, including the zero-shot WiC accuracy of 0 and the equal zero- and one-shot columns of MultiRC. Rows of `gpt2`
are from Radford et al. 2019, Table 3, for data without numbers in the GPT-3 paper. Other numbers name their protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from icl_eval.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Published:
    """A published number of one system."""

    system: str
    """Its name in the paper, such as GPT-3 175B, fine-tuned BERT-Large or fine-tuned SOTA."""
    value: float
    """In the unit of icl-eval's scores: a fraction between 0 and 1; perplexity and BLEU as printed."""
    shots: int | None
    """Number of demonstrations; None for a fine-tuned system."""
    split: str
    """dev, test or n/a, as printed. For the SOTA outside SuperGLUE, which the paper does not state, that of the row."""
    source: str
    protocol: str | None = None
    """How it was measured, if not as in the paper of its row; such a number is not a target."""


_AS_PRINTED = ("ppl", "perplexity", "bleu", "bits")  # in the names of metrics, the paper's or ours

_Row = Mapping[str, Sequence[Published]]  # name of a metric in icl-eval -> its numbers

_DIAGNOSTICS = ("superglue:AX-b", "superglue:AX-g")  # tasks without numbers in the paper

# Name of a metric in the paper -> in icl-eval. Others keep their name: BLEU-mb needs XLM's tokenization.
_METRICS = {"acc": "accuracy", "ppl": "perplexity", "BLEU-sb": "bleu:tokenize=intl"}
_TWO_METRICS = {
    "CB": {"acc": "accuracy", "f1": "macro_f1"},
    "MultiRC": {"acc": "group_exact_match", "f1a": "f1a"},  # its acc counts questions (Figure G.15)
    "ReCoRD": {"acc": "record_em", "f1": "record_f1"},
}  # tasks of SuperGLUE with two metrics, which are averaged
_CLOSED_BOOK = ("NQs", "TriviaQA", "WebQs")
_EXACT = (
    *("2D+", "2D-", "3D+", "3D-", "4D+", "4D-", "5D+", "5D-", "2Dx", "1DC"),
    *("CycledLetters", "Anagrams1", "Anagrams2", "SymbolInsertion", "ReversedWords"),
)  # tasks whose answers must be generated exactly (section 3.9)
_GENERATED = {
    **{("gpt3:" + task, "squad_em"): "accuracy" for task in ("BoolQ", "CB", "RTE", "WiC")},
    ("gpt3:WSC", "referent_match"): "accuracy",
}
# Appendix G calls these answers "Target Completion", so a number is compared with ranked and with generated answers.
_METRICS_OF_TASK: Mapping[str, Mapping[str, str]] = {
    **_TWO_METRICS,
    **{task: {"acc": "squad_em"} for task in _CLOSED_BOOK},
    **{task: {"acc": "exact_match"} for task in _EXACT},
    "LAMBADA": {"acc": "greedy_accuracy", "ppl": "perplexity"},
    "SQuADv2": {"em": "squad_em", "f1": "squad_f1"},
    "CoQA": {"f1": "coqa_f1"},
    "QuAC": {"f1": "quac_f1"},
    "DROP": {"f1": "drop_f1"},
}


def published(reference: str, metric: str, shots: int | None = None) -> list[Published]:
    """The published numbers for a score: GPT-3 by size, BERT-Large, SOTA, then others; empty if there are none.

    Args:
        reference: the name in a task or suite file, such as `gpt3:RTE`.
        metric: name of the metric in icl-eval, or in the paper if icl-eval does not have it (`BLEU-mb`). `average` is
            the mean of a task's two metrics, and for `gpt3:SuperGLUE` the average of the suite.
        shots: 0 and 1 select zero- and one-shot numbers, larger values select few-shot numbers of any number of shots.
            Fine-tuned systems are always included. None selects everything.

    Raises:
        UnknownName: the reference does not exist.
    """
    row = _row(reference)
    figures = row.get(metric) or [
        each for each in row.get(_GENERATED.get((reference, metric), ""), ()) if not each.protocol
    ]
    return [figure for figure in figures if _matches_shots(figure, shots)]


def published_metrics(reference: str) -> list[str]:
    """The metrics for which a reference has numbers, those of its own paper first.

    Raises:
        UnknownName: the reference does not exist.
    """
    return sorted(_row(reference), key=lambda metric: all(each.protocol for each in published(reference, metric)))


def reference_names(paper: str | None = None) -> list[str]:
    """All references in the order of Table H.1, or only those of one source, such as `gpt3`.

    Raises:
        UnknownName: the source does not exist.
    """
    if paper is None:
        return list(_rows())
    _check_paper(paper)
    return [name for name in _rows() if name.startswith(f"{paper}:")]


def _row(reference: str) -> _Row:
    if reference in _rows():
        return _rows()[reference]
    paper, _, row = reference.partition(":")
    known = [name.removeprefix(f"{paper}:") for name in reference_names(paper)]
    raise UnknownName(f"row of published numbers in {paper}", row, known)


def _check_paper(paper: str) -> None:
    papers = {name.partition(":")[0] for name in _rows()}
    if paper not in papers:
        raise UnknownName("source of published numbers", paper, papers)


def _matches_shots(figure: Published, shots: int | None) -> bool:
    if shots is None or figure.shots is None:
        return True
    return min(figure.shots, 2) == min(shots, 2)  # 2 stands for all few-shot settings


@cache
def _rows() -> dict[str, _Row]:
    """All rows by reference, read when first needed."""
    rows: dict[str, dict[str, list[Published]]] = {}
    for task, metric, figures in _table(_read("gpt3.json")):
        rows.setdefault(f"gpt3:{task}", {})[_METRICS_OF_TASK.get(task, _METRICS).get(metric, metric)] = figures
    for task in _TWO_METRICS:
        rows[f"gpt3:{task}"]["average"] = _averages(*rows[f"gpt3:{task}"].values())
    for reference, metric, figure in _others(_read("others.json")):
        rows.setdefault(reference, {}).setdefault(metric, []).append(figure)
    return {**rows, **{name: {} for name in _DIAGNOSTICS}}


def _read(name: str) -> Any:
    return json.loads(resources.files("icl_eval.references").joinpath(name).read_text(encoding="utf-8"))


def _others(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Published]]:
    """Reference, metric and number, for every number that is not from the tables of the GPT-3 paper."""
    for group in found["groups"]:
        for reference, metric, split, value, *apart in group["figures"]:
            protocol = ", ".join([group["protocol"], *apart]) if group["protocol"] else None
            value = _as_fraction(value, metric)
            yield reference, metric, Published(group["system"], value, group["shots"], split, group["source"], protocol)


def _table(paper: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Published]]]:
    """Task and metric as named in the GPT-3 paper, with the numbers from both of its tables."""
    every_size, test = paper["every_size"], paper["superglue_test"]
    fine_tuned = {(row["task"], row["metric"]): _fine_tuned(row, test["source"]) for row in test["rows"]}
    for row in every_size["rows"]:
        key = row["task"], row["metric"]
        gpt3 = _gpt3(row, paper["models"], every_size["source"])
        # Both tables print the same SOTA for SuperGLUE; only Table 3.8 says that it is on the test set.
        yield *key, gpt3 + (fine_tuned[key] if key in fine_tuned else _fine_tuned(row, every_size["source"]))


def _gpt3(row: Mapping[str, Any], models: Sequence[str], source: str) -> list[Published]:
    """Zero-, one- and few-shot numbers of each size, then the number of the largest size on the test server."""
    settings = [("zero_shot", 0), ("one_shot", 1), ("few_shot", row["k"])]
    figures = [
        Published(model, _as_fraction(row[setting][size], row["metric"]), shots, row["split"], source)
        for size, model in enumerate(models)
        for setting, shots in settings
    ]
    server = row["few_shot_test_server"]
    if server is None:
        return figures
    return [*figures, Published(models[-1], _as_fraction(server, row["metric"]), row["k"], "test", source)]


def _fine_tuned(row: Mapping[str, Any], source: str) -> list[Published]:
    systems = {"fine-tuned BERT-Large": row.get("fine_tuned_bert_large"), "fine-tuned SOTA": row["fine_tuned_sota"]}
    return [
        Published(system, _as_fraction(value, row["metric"]), None, row["split"], source)
        for system, value in systems.items()
        if value is not None
    ]


def _as_fraction(printed: float, metric: str) -> float:
    """A percentage as a fraction, rounded to remove binary noise; perplexity, BLEU and bits as printed."""
    return printed if any(word in metric.lower() for word in _AS_PRINTED) else round(printed / 100, 6)


def _averages(first: Sequence[Published], second: Sequence[Published]) -> list[Published]:
    """The mean of a task's two metrics for each system (section 3.7 counts such a task once)."""
    return [
        replace(one, value=round((one.value + other.value) / 2, 6), source=f"{one.source}, mean of its two metrics")
        for one, other in zip(first, second, strict=True)
    ]
