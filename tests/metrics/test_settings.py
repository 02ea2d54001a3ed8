"""Settings of metrics in their names."""

from pathlib import Path

import pytest

from icl_eval.errors import IclEvalError
from icl_eval.metrics import TextPrediction, estimate, metric

FAULTS = {
    "bleu:tokenise=zh": "no setting of bleu is named 'tokenise'; did you mean tokenize?",
    "bleu:tokenize=zhh": "no value of bleu's `tokenize` is named 'zhh'; did you mean zh?",
    "bleu:tokenize": "no value of bleu's `tokenize` is named ''; choose from 13a, char, flores101, flores200, intl, "
    "ja-mecab, ko-mecab, none, spBLEU-1K, zh",
    "chrf:word_order=-1": "no value of chrf's `word_order` is named '-1'; did you mean 1?",
    "bleu_intl:tokenize=zh": "no metric is named 'bleu_intl'; did you mean bleu?",
    "accuracy:tokenize=zh": "accuracy takes no settings; exact_match, mlqa_em, mlqa_f1, bleu, chrf, ter, "
    "in_context_score, min_k, min_k_plus_plus do",
    "accuracy:vote=majority": "`vote` and `pass_at` need a metric that scores each text, which accuracy:vote=majority "
    "does not",
    "bleu:pass_at=2": "`vote` and `pass_at` need a metric that scores each text, which bleu:pass_at=2 does not",
    "mlqa_f1": "mlqa_f1 needs a language, as in `mlqa_f1: {language: zh}`; choose from en, es, hi, vi, de, ar, zh",
    "mlqa_f1:language=ja": "no value of mlqa_f1's `language` is named 'ja'; choose from ar, de, en, es, hi, vi, zh",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_name_is_an_error_of_one_sentence_with_its_position(name: str) -> None:
    with pytest.raises(IclEvalError) as caught:
        metric(name, path=Path("task.yaml"), line=3)

    assert str(caught.value) == f"task.yaml:3: {FAULTS[name]}"


def test_name_has_its_settings_in_alphabetical_order() -> None:
    assert metric("bleu:tokenize=zh:lowercase=true").name == "bleu:lowercase=true:tokenize=zh"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exact_match", 0.0),
        ("exact_match:ignore_case=true", 0.0),
        ("exact_match:ignore_punctuation=true", 0.0),
        ("exact_match:ignore_case=true:ignore_punctuation=true", 1.0),
        ("exact_match:ignore_case=false", 0.0),
    ],
)
def test_exact_match_may_ignore_case_and_punctuation(name: str, value: float) -> None:
    answered = TextPrediction("0", " the cat.\n", ("The Cat",), "0", "0")

    assert estimate(metric(name), [[answered]]).value == value
