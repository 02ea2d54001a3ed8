"""Perplexities and bits per byte against their definitions, computed by hand, and against a plain bootstrap."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import t

from icl_eval.errors import IclEvalError, MetricError
from icl_eval.metrics import METRICS, LikelihoodPrediction, estimate, lower_is_better, metric

from .answered import likelihoods, likely

PERPLEXITIES = ("perplexity", "token_perplexity", "word_perplexity", "byte_perplexity", "token_loss", "bits_per_byte")


def value(name: str, predictions: list[LikelihoodPrediction]) -> float:
    return estimate(METRICS[name], [predictions]).value


def test_metrics_of_two_documents_are_computed_by_hand() -> None:
    # 12 + 36 = 48 nats; 2 texts, 6 + 10 tokens, 4 + 8 words, 16 + 32 bytes
    documents = likely([-12, -36], [6, 10], words=[4, 8])

    assert value("perplexity", documents) == pytest.approx(math.exp(24))
    assert value("token_perplexity", documents) == pytest.approx(math.exp(3))
    assert value("word_perplexity", documents) == pytest.approx(math.exp(4))
    assert value("byte_perplexity", documents) == pytest.approx(math.exp(1))
    assert value("token_loss", documents) == pytest.approx(3)
    assert value("bits_per_byte", documents) == pytest.approx(1 / math.log(2))


def test_uniform_guess_over_v_tokens_has_perplexity_v() -> None:
    guesses = likely([-n * math.log(50257) for n in (1, 5, 30)], [1, 5, 30])

    assert value("token_perplexity", guesses) == pytest.approx(50257)


def test_greedy_accuracy_is_the_share_of_texts_that_greedy_decoding_would_write() -> None:
    texts = [*likely([-0.1], [1], greedy=True), LikelihoodPrediction("z", -3.0, False, 2, 1, 5, "z", "z")]

    assert value("greedy_accuracy", texts) == 0.5


@pytest.mark.parametrize("name", PERPLEXITIES)
def test_standard_error_and_interval_are_those_of_resampled_documents(name: str) -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(3, 30, size=200)
    nats = sizes * generator.gamma(9, 0.3, size=200) if name != "perplexity" else generator.gamma(2, 1, size=200)
    documents = likely((-nats).tolist(), sizes.tolist())
    per = {"perplexity": np.ones(200), "byte_perplexity": 4 * sizes, "bits_per_byte": 4 * sizes}.get(name, sizes)
    draws = generator.integers(200, size=(6000, 200))
    means = nats[draws].sum(axis=1) / per[draws].sum(axis=1)
    resampled = {"bits_per_byte": means / math.log(2), "token_loss": means}.get(name, np.exp(means))
    found = estimate(METRICS[name], [documents])

    assert found.standard_error == pytest.approx(resampled.std(ddof=1), rel=0.06)
    assert (found.interval, found.units) == ("log-normal", 200)
    # the logarithm is what is nearly normal, so the ends leave about 2.5 % of the resamples on each side
    assert [(resampled < found.low).mean(), (resampled > found.high).mean()] == pytest.approx([0.025] * 2, abs=0.01)


def test_interval_of_a_perplexity_is_symmetric_in_its_logarithm() -> None:
    found = estimate(METRICS["token_perplexity"], [likely([-10.0 - n % 7 for n in range(120)], [2] * 120)])

    assert found.low * found.high == pytest.approx(found.value**2)
    assert math.log(found.high / found.value) == pytest.approx(t.ppf(0.975, 119) * found.standard_error / found.value)


def test_few_documents_have_a_wider_interval_of_the_same_kind() -> None:
    found = estimate(METRICS["word_perplexity"], [likely([-3.0, -8.0, -2.0], [1, 2, 2])])

    assert found.interval == "log-normal"
    assert found.high == pytest.approx(found.value * math.exp(t.ppf(0.975, 2) * found.standard_error / found.value))


@pytest.mark.parametrize("name", PERPLEXITIES)
def test_one_document_says_nothing_about_uncertainty(name: str) -> None:
    alone = estimate(METRICS[name], [likely([-3.0], [2])])

    assert math.isnan(alone.standard_error)
    assert (alone.low, alone.high, alone.interval) == (*METRICS[name].bounds, "bounds")


@given(likelihoods())
def test_perplexities_are_one_quantity_in_several_units(predictions: list[LikelihoodPrediction]) -> None:
    size = sum(prediction.bytes for prediction in predictions)
    nats = -sum(prediction.logprob for prediction in predictions)

    assert math.log(value("byte_perplexity", predictions)) * size == pytest.approx(nats, abs=1e-9)
    assert 2 ** value("bits_per_byte", predictions) == pytest.approx(value("byte_perplexity", predictions))
    assert value("word_perplexity", predictions) >= value("byte_perplexity", predictions)


def test_words_of_texts_without_spaces_are_not_counted() -> None:
    texts = [replace(each, unspaced=True) for each in likely([-3.0], [2])]

    with pytest.raises(MetricError, match="word_perplexity counts words between spaces"):
        estimate(METRICS["word_perplexity"], [texts])
    assert value("byte_perplexity", texts) == pytest.approx(math.exp(3 / 8))


def test_perplexity_that_no_float_holds_is_an_error() -> None:
    with pytest.raises(MetricError, match="perplexity of these predictions is not a finite number"):
        estimate(METRICS["perplexity"], [likely([-5000.0, -9000.0], [1000, 2000])])


def test_seeds_may_split_a_text_into_other_tokens() -> None:
    found = estimate(METRICS["perplexity"], [likely([-1.0], [1], words=[1]), likely([-2.0], [2], words=[1])])

    assert found.seed_values == pytest.approx((math.exp(1), math.exp(2)))


def texts_of(losses: list[NDArray[np.float64]]) -> list[LikelihoodPrediction]:
    """Texts with these losses of their tokens."""
    plain = likely([-float(each.sum()) for each in losses], [len(each) for each in losses])
    return [replace(one, windows=(tuple(-each),)) for one, each in zip(plain, losses, strict=True)]


def test_in_context_score_is_the_mean_difference_of_two_columns_with_its_standard_error() -> None:
    losses = np.random.default_rng(0).gamma(2, 1, (30, 600))
    differences = losses[:, 499] - losses[:, 49]
    found = estimate(metric("in_context_score"), [texts_of([*losses])])

    assert found.value == pytest.approx(differences.mean())
    assert found.standard_error == pytest.approx(differences.std(ddof=1) / math.sqrt(30))


def test_texts_without_a_late_token_do_not_count() -> None:
    losses = [*np.random.default_rng(0).gamma(2, 1, (20, 8))]
    measure = metric("in_context_score:early=2:late=8")
    alone, among = (estimate(measure, [texts_of(each)]) for each in (losses, [*losses, np.ones(7), np.ones(1)]))

    assert among.value == pytest.approx(alone.value) == pytest.approx(np.mean([each[7] - each[1] for each in losses]))
    assert among.standard_error == pytest.approx(alone.standard_error, rel=0.03)
    assert lower_is_better(measure.name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in_context_score", "no text has 500 tokens in its first window; the longest has 8"),
        ("in_context_score:late=0", "`late` must be a whole number of at least 1, not '0'"),
        ("in_context_score:lat=9", "no setting of in_context_score is named 'lat'; did you mean late"),
    ],
)
def test_positions_that_no_text_has_are_errors(name: str, message: str) -> None:
    with pytest.raises(IclEvalError, match=message):
        estimate(metric(name), [texts_of([np.ones(8)])])


@pytest.mark.parametrize("k", [5, 10, 20, 30, 40, 50, 60])
def test_min_k_is_the_mean_of_what_the_authors_compute_of_each_text(k: int) -> None:
    losses = [*map(np.random.default_rng(k).gamma, [1.0] * 30, [2.0] * 30, range(20, 50))]
    ratio = k / 100
    per_text = [np.mean(np.sort(-each)[: int(len(each) * ratio)]) for each in losses]
    found = estimate(metric(f"min_k:k={k}"), [texts_of(losses)])

    assert found.value == pytest.approx(np.mean(per_text))
    assert found.standard_error == pytest.approx(np.std(per_text, ddof=1) / math.sqrt(30))


@pytest.mark.parametrize("k", [10, 100])
def test_min_k_plus_plus_is_the_mean_of_what_the_authors_compute_of_each_text(k: int) -> None:
    rng, texts, scores = np.random.default_rng(k), [], []
    for size in range(20, 40):
        table = log_softmax(rng.normal(0, 3, (size, 50)), axis=1)  # of every next token of a text
        logprobs = table[range(size), rng.integers(50, size=size)]
        means = (np.exp(table) * table).sum(axis=1)
        sds = np.sqrt((np.exp(table) * table**2).sum(axis=1) - means**2)
        scores.append(np.sort((logprobs - means) / sds)[: int(size * k / 100)].mean())
        (text,) = texts_of([-logprobs])
        texts.append(replace(text, id=str(size), cluster=str(size), means=(tuple(means),), sds=(tuple(sds),)))
    found = estimate(metric(f"min_k_plus_plus:k={k}"), [texts])

    assert found.value == pytest.approx(np.mean(scores))
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / math.sqrt(20))
    assert lower_is_better(f"min_k_plus_plus:k={k}") is None


def test_a_token_as_likely_as_all_others_is_at_the_mean() -> None:
    (text,) = texts_of([np.array([3.0, 1.0])])
    text = replace(text, means=((-3.0, -2.0),), sds=((0.0, 2.0),))

    assert estimate(metric("min_k_plus_plus:k=50"), [[text]]).value == 0
    assert estimate(metric("min_k_plus_plus:k=100"), [[text]]).value == 0.25


def test_min_k_takes_the_tokens_of_all_windows_and_leaves_out_texts_that_are_too_short() -> None:
    (plain,) = texts_of([np.arange(1.0, 7)])
    windows = replace(plain, windows=((-1.0, -6.0, -2.0), (-5.0, -3.0), (-4.0,)))
    (short,) = texts_of([np.ones(4)])

    assert estimate(metric("min_k"), [[windows, replace(short, id="short", cluster="short")]]).value == -6
    assert estimate(metric("min_k:k=50"), [[windows]]).value == estimate(metric("min_k:k=50"), [[plain]]).value == -5
    assert lower_is_better("min_k:k=50") is None
    with pytest.raises(
        MetricError, match="all texts are too short: 20 % of a text must be at least one token, so it needs 5 tokens"
    ):
        estimate(metric("min_k"), [[short]])
    with pytest.raises(MetricError, match="so it needs 4 tokens"):
        estimate(metric("min_k:k=30"), [[replace(short, windows=((-1.0,) * 3,))]])


def test_zlib_ratio_is_the_mean_of_log_likelihoods_over_compressed_bytes() -> None:
    texts = [replace(each, zlib_bytes=size) for each, size in zip(likely([-12, -36], [6, 10]), (8, 12), strict=True)]

    assert estimate(metric("zlib_ratio"), [texts]).value == pytest.approx((-12 / 8 - 36 / 12) / 2)
    assert lower_is_better("zlib_ratio") is None
    with pytest.raises(MetricError, match="the compressed size of the texts is not stored"):
        estimate(metric("zlib_ratio"), [likely([-12], [6])])


@pytest.mark.parametrize("k", ["0", "101", "2.5"])
def test_k_is_a_whole_percentage(k: str) -> None:
    with pytest.raises(IclEvalError, match=f"no value of min_k's `k` is named '{k}'"):
        metric(f"min_k:k={k}")
