"""Predictions for the tests of metrics, choices written as rows of (gold, chosen)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from icl_eval.metrics import METRICS, AnyPrediction, Kind, LikelihoodPrediction, Prediction, TextPrediction


def answered(
    gold: Sequence[int],
    chosen: Sequence[int],
    *,
    clusters: Sequence[object] | None = None,
    groups: Sequence[object] | None = None,
    options: tuple[str, ...] = ("False", "True"),
) -> list[Prediction]:
    """One prediction per (gold, chosen); clusters and groups default to the ids."""
    ids = [f"e{index:04}" for index in range(len(gold))]
    return [
        Prediction(id, options, (int(right),), int(choice), str(cluster), str(group))
        for id, right, choice, cluster, group in zip(ids, gold, chosen, clusters or ids, groups or ids, strict=True)
    ]


def gold_of(predictions: Sequence[Prediction]) -> list[int]:
    return [prediction.gold[0] for prediction in predictions]


def chosen_of(predictions: Sequence[Prediction]) -> list[int]:
    return [prediction.chosen for prediction in predictions]


def right(values: Sequence[bool], clusters: Sequence[object] | None = None) -> list[Prediction]:
    """Predictions that are right where `values` says so."""
    return answered([1] * len(values), [int(value) for value in values], clusters=clusters)


def correlated(seed: int, clusters: int, size: int = 3, classes: int = 2) -> list[Prediction]:
    """Clusters of `size` examples whose gold and chance of a right answer are shared in part."""
    generator = np.random.default_rng(seed)
    names = np.repeat(np.arange(clusters), size)
    usual = generator.integers(classes, size=clusters)[names]
    gold = np.where(generator.random(len(names)) < 0.5, usual, generator.integers(classes, size=len(names)))
    skill = generator.beta(2, 1.5, size=clusters)[names]
    chosen = np.where(generator.random(len(names)) < skill, gold, generator.integers(classes, size=len(names)))
    options = tuple(f"option {index}" for index in range(classes))
    return answered(gold.tolist(), chosen.tolist(), clusters=names.tolist(), options=options)


def macro_f1(gold: np.ndarray, chosen: np.ndarray) -> float:
    """As scikit-learn's, which takes too long for many resamples, of classes that all occur."""
    classes = int(max(gold.max(), chosen.max())) + 1
    counts = np.bincount(gold * classes + chosen, minlength=classes**2).reshape(classes, classes)
    return float((2 * counts.diagonal() / (counts.sum(axis=0) + counts.sum(axis=1))).mean())


@st.composite
def paired(draw: st.DrawFn) -> list[Prediction]:
    """2 to 40 two-option examples in groups of two, each group in one of up to six clusters."""
    pairs = draw(st.integers(1, 20))
    bits = st.lists(st.integers(0, 1), min_size=2 * pairs, max_size=2 * pairs)
    gold, chosen = draw(bits), draw(bits)
    clusters = draw(st.lists(st.integers(0, 5), min_size=pairs, max_size=pairs))
    found = answered(
        gold,
        chosen,
        clusters=[cluster for cluster in clusters for _ in range(2)],
        groups=[pair for pair in range(pairs) for _ in range(2)],
    )
    return [replace(each, scores=(-0.5, -1.5) if each.chosen == 0 else (-1.5, -0.5)) for each in found]


def wrote(text: str, *references: str, id: str = "e", right: bool = True) -> TextPrediction:
    return TextPrediction(id, text, references, id, id, right)


def corpus(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[TextPrediction]:
    """One prediction per text, each in a separate cluster."""
    return [wrote(text, *golds, id=f"e{n:04}") for n, (text, golds) in enumerate(zip(texts, references, strict=True))]


def likely(
    logprobs: Sequence[float], tokens: Sequence[int], *, words: Sequence[int] | None = None, greedy: bool = False
) -> list[LikelihoodPrediction]:
    """One prediction per log-probability; words default to tokens, and a word has four bytes."""
    return [
        LikelihoodPrediction(f"e{n:04}", logprob, greedy, count, word, 4 * word, f"e{n:04}", f"e{n:04}")
        for n, (logprob, count, word) in enumerate(zip(logprobs, tokens, words or tokens, strict=True))
    ]


OF_LONG_TEXTS = {
    "in_context_score",
    "min_k",
    "min_k_plus_plus",
    "zlib_ratio",
}  # metrics that need more than the likelihoods below have
_WORDS = ["the", "a", "cat", "12", "sat", "on", "mat.", "CANNOTANSWER", "|"]
_SENTENCES = st.lists(st.sampled_from(_WORDS), max_size=7).map(" ".join)


@st.composite
def written(draw: st.DrawFn) -> list[TextPrediction]:
    """1 to 20 short texts with one to three references, in up to six clusters."""
    references = st.lists(_SENTENCES.filter(lambda text: text.strip("| ")), min_size=1, max_size=3)
    rows = draw(st.lists(st.tuples(_SENTENCES, references, st.integers(0, 5)), min_size=1, max_size=20))
    return [
        TextPrediction(f"e{n:04}", text, tuple(golds), str(cluster), f"e{n:04}")
        for n, (text, golds, cluster) in enumerate(rows)
    ]


@st.composite
def likelihoods(draw: st.DrawFn) -> list[LikelihoodPrediction]:
    """1 to 40 texts of up to nine tokens in up to six clusters, with at most ten nats a token."""
    row = st.tuples(st.floats(0, 10), st.integers(1, 9), st.booleans(), st.integers(0, 5))
    return [
        LikelihoodPrediction(f"e{n:04}", -nats * size, greedy, size, size, 3 * size, str(cluster), f"e{n:04}")
        for n, (nats, size, greedy, cluster) in enumerate(draw(st.lists(row, min_size=1, max_size=40)))
    ]


_OF_KIND: dict[Kind, st.SearchStrategy[list[AnyPrediction]]] = {
    "choice": paired(),  # type: ignore[dict-item]
    "text": written(),  # type: ignore[dict-item]
    "likelihood": likelihoods(),  # type: ignore[dict-item]
}


@st.composite
def measured(draw: st.DrawFn) -> tuple[str, list[AnyPrediction]]:
    """A metric and predictions of the kind it measures."""
    name = draw(st.sampled_from(sorted(METRICS.keys() - OF_LONG_TEXTS)))
    return name, draw(_OF_KIND[METRICS[name].of])
