"""ROUGE against cases computed by hand from Lin 2004."""

import pytest

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, check_examples, estimate

from .answered import wrote


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        # 3 of 4 words; of 3 pairs "the gunman"; the subsequence "police the gunman"
        ("police kill the gunman", ("police killed the gunman",), (3 / 4, 1 / 3, 3 / 4)),
        # all words; of 3 pairs "the gunman"; the subsequence "the gunman", or another of two
        ("the gunman kill police", ("police kill the gunman",), (1, 1 / 3, 1 / 2)),
        ("police", ("gunman", "Police!"), (1, 0, 1)),
        ("police police", ("police",), (2 / 3, 0, 2 / 3)),
        ("", ("police",), (0, 0, 0)),
    ],
)
def test_rouge_of_one_text(text: str, references: tuple[str, ...], expected: tuple[float, float, float]) -> None:
    found = [estimate(METRICS[name], [[wrote(text, *references)]]).value for name in ("rouge1", "rouge2", "rougeL")]

    assert tuple(found) == pytest.approx(expected)


def test_words_are_not_stemmed() -> None:
    assert estimate(METRICS["rouge1"], [[wrote("killed", "killing")]]).value == 0


def test_blank_reference_is_an_error() -> None:
    with pytest.raises(MetricError, match="example 'e' has an empty reference, which rouge1 cannot compare with"):
        estimate(METRICS["rouge1"], [[wrote("police", "police", " ")]])


@pytest.mark.parametrize("reference", ["погода хорошая в 2020 году", "天气很好 ok"])
def test_references_of_other_letters_than_rouge_reads_are_an_error(reference: str) -> None:
    with pytest.raises(MetricError) as caught:
        check_examples(METRICS["rouge2"], [wrote("", reference)])

    assert str(caught.value) == (
        "rouge2 reads only words of ASCII letters and digits, but most letters of the references are not ASCII; "
        "`chrf` or `char_f1` fits"
    )


def test_reference_without_a_word_for_rouge_is_an_error() -> None:
    english = wrote("", "für uns und für euch, 2020", "—")

    check_examples(METRICS["rougeL"], [english])
    with pytest.raises(MetricError, match="'e2' has no reference with a word of ASCII letters or digits, and rougeL"):
        check_examples(METRICS["rougeL"], [english, wrote("", "天气", "—", id="e2")])
