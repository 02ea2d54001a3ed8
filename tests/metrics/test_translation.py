"""BLEU, chrF and TER against sacreBLEU itself, on corpora and on their resamples."""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, Signed, TextPrediction, estimate
from icl_eval.metrics.resampling import bootstrap

from .answered import corpus

SCORERS = {
    "bleu": sacrebleu.BLEU(),
    "bleu_intl": sacrebleu.BLEU(tokenize="intl"),
    "chrf": sacrebleu.CHRF(),
    "ter": sacrebleu.TER(),
}
TEXTS = [
    "The cat sat on the mat.",
    "«Où est-il?» demanda-t-elle à 3.5 km.",
    "",
    "He had 12,000 – nearly 13 000 – francs.",
    "the the the the the",
    "Obama receives Netanyahu in the White House today",
]
REFERENCES = [
    ["The cat sat on a mat.", "A cat was sitting on the mat."],
    ["« Où est-il ? » demanda-t-elle à 3,5 km."],
    ["Nothing was written here at all."],
    ["He had nearly 13,000 francs."],
    ["the cat is on the mat", "there is a cat on the mat", "cat"],
    ["Obama received Netanyahu at the White House"],
]


def by_sacrebleu(name: str, texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    streams = [list(stream) for stream in zip_longest(*references)]
    return float(SCORERS[name].corpus_score(list(texts), streams).score)


@pytest.mark.parametrize("name", SCORERS)
def test_value_is_that_of_sacrebleu(name: str) -> None:
    expected = by_sacrebleu(name, TEXTS, REFERENCES)

    assert 5 < expected < 95
    assert estimate(METRICS[name], [corpus(TEXTS, REFERENCES)]).value == pytest.approx(expected, abs=1e-9)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "the", "3.5", "x-y", "É,", "."]), max_size=8).map(" ".join)


@settings(deadline=None)
@pytest.mark.parametrize("name", SCORERS)
@given(st.lists(st.tuples(WORDS, st.lists(WORDS.filter(bool), min_size=1, max_size=2)), min_size=1, max_size=6))
def test_value_of_any_corpus_is_that_of_sacrebleu(name: str, rows: list[tuple[str, list[str]]]) -> None:
    texts, references = [text for text, _ in rows], [golds for _, golds in rows]
    actual = estimate(METRICS[name], [corpus(texts, references)]).value

    assert actual == pytest.approx(by_sacrebleu(name, texts, references), abs=1e-9)


@pytest.mark.parametrize("name", SCORERS)
def test_resampled_values_are_those_of_resampled_corpora(name: str) -> None:
    statistics = METRICS[name].statistics(corpus(TEXTS, REFERENCES))
    values = bootstrap(lambda counts: METRICS[name].value(counts @ statistics.cluster_sums), len(TEXTS), 20)
    draws = np.random.Generator(np.random.PCG64(0)).multinomial(6, [1 / 6] * 6, size=20)
    drawn = [[place for place, times in enumerate(draw) for _ in range(times)] for draw in draws]
    expected = [by_sacrebleu(name, [TEXTS[n] for n in places], [REFERENCES[n] for n in places]) for places in drawn]

    assert values == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", SCORERS)
def test_standard_error_is_the_spread_of_resampled_corpora(name: str) -> None:
    generator = np.random.default_rng(5)
    words = np.array(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])

    def sentence(length: int) -> str:
        return " ".join(generator.choice(words[: 4 + length // 3], size=length))

    references = [sentence(int(generator.integers(5, 15))) for _ in range(150)]
    texts = [" ".join(w if generator.random() < 0.8 else "z" for w in each.split()) for each in references]
    predictions = corpus(texts, [[each] for each in references])
    found = estimate(METRICS[name], [predictions])
    sums = METRICS[name].statistics(predictions).cluster_sums
    spread = bootstrap(lambda counts: METRICS[name].value(counts @ sums), 150, 4000).std(ddof=1)

    assert found.standard_error == pytest.approx(spread, rel=0.06)
    assert found.interval == ("log-normal" if name == "ter" else "wilson")
    assert found.low < found.value < found.high


def test_perfect_and_hopeless_translations() -> None:
    same = corpus(["the cat is on the mat"] * 2, [["the cat is on the mat"]] * 2)
    empty = corpus(["", ""], [["the cat"], ["is on the mat"]])
    expected = {"bleu": (100, 0), "bleu_intl": (100, 0), "chrf": (100, 0), "ter": (0, 100)}

    for name, (best, worst) in expected.items():
        assert estimate(METRICS[name], [same]).value == pytest.approx(best)
        assert estimate(METRICS[name], [empty]).value == worst


def test_bleu_of_a_short_corpus_is_computed_by_hand() -> None:
    # words 3/4, pairs 2/3, triples 1/2, and no four in a row of one, which counts as half; as long as the reference
    found = estimate(METRICS["bleu"], [corpus(["a b c x"], [["a b c d"]])]).value

    assert found == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4))


def signature(name: str, predictions: list[TextPrediction]) -> str:
    metric = METRICS[name]
    assert isinstance(metric, Signed)
    return metric.signature(predictions)


def test_signature_is_that_of_sacrebleu() -> None:
    one, several = corpus(TEXTS[1:4], REFERENCES[1:4]), corpus(TEXTS, REFERENCES)
    version = sacrebleu.__version__

    assert signature("bleu_intl", one) == f"BLEU|nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:{version}"
    assert signature("bleu", several) == f"BLEU|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature("chrf", one) == f"CHRF|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    assert signature("ter", one) == f"TER|nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version}"


@pytest.mark.parametrize("name", SCORERS)
def test_blank_reference_is_an_error(name: str) -> None:
    with pytest.raises(MetricError, match=f"example 'e0001' has an empty reference, which {name} cannot compare with"):
        estimate(METRICS[name], [corpus(["a", "b"], [["a"], [" "]])])
