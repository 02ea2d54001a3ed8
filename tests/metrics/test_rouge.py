"""ROUGE against cases computed by hand from Lin 2004."""

import pytest

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, estimate

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
