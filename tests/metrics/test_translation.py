"""BLEU, chrF and TER against sacreBLEU itself, on corpora and on their resamples."""

import importlib.machinery
import sys
import types
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, Signed, TextPrediction, check_examples, estimate, metric
from icl_eval.metrics.registry import FAMILIES
from icl_eval.metrics.uncertainty import bootstrap

from .answered import corpus

SCORERS = {
    "bleu": sacrebleu.BLEU(),
    "chrf": sacrebleu.CHRF(),
    "ter": sacrebleu.TER(),
}
CONFIGURED = {
    "bleu:tokenize=intl": sacrebleu.BLEU(tokenize="intl"),
    "bleu:lowercase=true:tokenize=char": sacrebleu.BLEU(tokenize="char", lowercase=True),
    "chrf:char_order=4:lowercase=true:word_order=2": sacrebleu.CHRF(char_order=4, word_order=2, lowercase=True),
    "ter:case_sensitive=true:no_punct=true": sacrebleu.TER(case_sensitive=True, no_punct=True),
    "ter:asian_support=true:normalized=true": sacrebleu.TER(asian_support=True, normalized=True),
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
    return float((SCORERS | CONFIGURED)[name].corpus_score(list(texts), streams).score)


@pytest.mark.parametrize("name", [*SCORERS, *CONFIGURED])
def test_value_is_that_of_sacrebleu(name: str) -> None:
    expected = by_sacrebleu(name, TEXTS, REFERENCES)

    assert 5 < expected < 95
    assert estimate(metric(name), [corpus(TEXTS, REFERENCES)]).value == pytest.approx(expected, abs=1e-9)


def test_every_setting_changes_the_value() -> None:
    values = [estimate(metric(name), [corpus(TEXTS, REFERENCES)]).value for name in (*SCORERS, *CONFIGURED)]

    assert len({round(value, 6) for value in values}) == len(values)


CHINESE = (
    ["今天天气很好，我们去公园。", "他在2020年去了北京"],
    [["今天天气非常好，我们去了公园。"], ["2020年他去北京了"]],
)


def test_chinese_is_measured_by_its_tokenization() -> None:
    scorer = sacrebleu.BLEU(tokenize="zh")
    expected = scorer.corpus_score(CHINESE[0], [[golds[0] for golds in CHINESE[1]]]).score

    assert 20 < expected < 80
    assert estimate(metric("bleu:tokenize=zh"), [corpus(*CHINESE)]).value == pytest.approx(expected, abs=1e-9)
    assert signature("bleu:tokenize=zh", corpus(*CHINESE)).split("|")[4] == "tok:zh"


@pytest.mark.parametrize("name", ["bleu", "bleu:tokenize=intl", "ter", "ter:asian_support=true"])
def test_metric_that_sees_no_words_in_the_references_is_refused(name: str) -> None:
    with pytest.raises(MetricError, match=f"^{name} splits texts at spaces, and most letters of the references are of"):
        check_examples(metric(name), corpus(*CHINESE))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("bleu:tokenize=none", "今天 天气 很 好"),
        ("bleu:tokenize=char", "今天天气很好"),
        ("ter:asian_support=true:normalized=true", "今天天气很好"),
        ("chrf", "วันนี้อากาศดี"),
        ("bleu", "오늘 날씨가 아주 좋다"),
        ("bleu", "The word 天气 means weather."),
    ],
)
def test_metric_that_sees_the_words_of_the_references_is_taken(name: str, reference: str) -> None:
    assert estimate(metric(name), [corpus([reference], [[reference]])]).value in (0, pytest.approx(100))


def test_japanese_is_not_split_by_the_tokenization_of_chinese() -> None:
    with pytest.raises(MetricError, match="splits texts at spaces and Chinese characters, and most letters"):
        check_examples(metric("bleu:tokenize=zh"), corpus(["x"], [["これはとても良いてんきです"]]))


MISSING = {"ja-mecab": ("MeCab", "sacrebleu[ja]"), "flores200": ("sentencepiece", "sentencepiece")}


@pytest.mark.parametrize("tokenize", MISSING)
def test_missing_package_of_a_tokenization_is_named(tokenize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, package = MISSING[tokenize]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MetricError) as caught:
        check_examples(metric(f"bleu:tokenize={tokenize}"), corpus(["a"], [["a"]]))

    assert str(caught.value) == (
        f"bleu:tokenize={tokenize} needs a package that is not installed: pip install '{package}'"
    )


def test_download_of_a_tokenization_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise SystemExit(1)

    module = types.ModuleType("sentencepiece")
    module.__spec__ = importlib.machinery.ModuleSpec("sentencepiece", None)
    monkeypatch.setitem(sys.modules, "sentencepiece", module)
    monkeypatch.setattr(sacrebleu, "BLEU", fails)
    with pytest.raises(MetricError) as caught:
        check_examples(metric("bleu:tokenize=flores200"), corpus(["a"], [["a"]]))

    assert str(caught.value) == (
        "bleu:tokenize=flores200: sacreBLEU cannot load this tokenization, whose model it downloads to "
        f"{sacrebleu.SACREBLEU_DIR}/models: 1"
    )


def test_every_tokenization_is_one_of_sacrebleu() -> None:
    assert {*FAMILIES["bleu"].settings["tokenize"]} <= {*sacrebleu.BLEU.TOKENIZERS}


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
    drawn = [[index for index, times in enumerate(draw) for _ in range(times)] for draw in draws]
    expected = [by_sacrebleu(name, [TEXTS[n] for n in indices], [REFERENCES[n] for n in indices]) for indices in drawn]

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
    expected = {"bleu": (100, 0), "chrf": (100, 0), "ter": (0, 100)}

    for name, (best, worst) in expected.items():
        assert estimate(METRICS[name], [same]).value == pytest.approx(best)
        assert estimate(METRICS[name], [empty]).value == worst


def test_bleu_of_a_short_corpus_is_computed_by_hand() -> None:
    # words 3/4, pairs 2/3, triples 1/2, and no four in a row of one, which counts as half; as long as the reference
    found = estimate(METRICS["bleu"], [corpus(["a b c x"], [["a b c d"]])]).value

    assert found == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4))


def signature(name: str, predictions: list[TextPrediction]) -> str:
    measure = metric(name)
    assert isinstance(measure, Signed)
    return measure.signature(predictions)


def test_signature_is_that_of_sacrebleu() -> None:
    one, several = corpus(TEXTS[1:4], REFERENCES[1:4]), corpus(TEXTS, REFERENCES)
    version = sacrebleu.__version__

    assert (
        signature("bleu:tokenize=intl", one) == f"BLEU|nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:{version}"
    )
    assert signature("bleu", several) == f"BLEU|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature("chrf", one) == f"CHRF|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    assert signature("ter", one) == f"TER|nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version}"


@pytest.mark.parametrize("name", SCORERS)
def test_blank_reference_is_an_error(name: str) -> None:
    with pytest.raises(MetricError, match=f"example 'e0001' has an empty reference, which {name} cannot compare with"):
        estimate(METRICS[name], [corpus(["a", "b"], [["a"], [" "]])])
