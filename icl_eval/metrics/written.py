"""Scores of one generated text: those of SQuAD, CoQA, QuAC and T5's WSC, and exact equality."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from decimal import Decimal

from icl_eval.metrics.answer_text import normalize, squad2_f1, token_f1
from icl_eval.metrics.prediction import TextPrediction

CANNOT_ANSWER = "CANNOTANSWER"
DETERMINERS = {
    *("a", "an", "each", "every", "few", "her", "his", "many", "much", "my", "our"),
    *("some", "that", "the", "their", "these", "this", "those", "which", "whose", "your"),
}

PUNCTUATION = str.maketrans("", "", string.punctuation)
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")

_Agreement = Callable[[str, str], float]  # of an answer with one reference


def exact_match(prediction: TextPrediction, form: Callable[[str], str] = str.strip) -> float:
    """Whether the text is a reference, white space around both aside.

    For arithmetic and scrambled words, whose answer must be generated exactly (Brown et al. 2020, section 3.9).

    Args:
        prediction: the text and its references.
        form: what must be equal of both.
    """
    return float(form(prediction.text) in set(map(form, prediction.references)))


def exact_form(text: str, *, ignore_case: bool, ignore_punctuation: bool) -> str:
    """A text without white space at both ends, in lower case, and without ASCII punctuation, if these are ignored."""
    text = text.lower() if ignore_case else text
    return (text.translate(PUNCTUATION) if ignore_punctuation else text).strip()


def number_match(prediction: TextPrediction) -> float:
    """Whether the text is the same number as a reference: 18 is 18.0, and $1,800 is 1800. Other texts are compared as
    they are, except for white space at both ends.
    """
    return float(as_number(prediction.text) in map(as_number, prediction.references))


def as_number(text: str) -> Decimal | str:
    """The number that a text is, without white space, dollar and percent signs, commas and a final full stop."""
    plain = "".join(text.split()).replace(",", "").replace("-$", "-").strip("$%").removesuffix(".")
    return Decimal(plain) if NUMBER.fullmatch(plain) else text.strip()


def squad_em(prediction: TextPrediction) -> float:
    """Whether the text equals a reference after SQuAD's normalisation (Rajpurkar et al. 2016, section 6.1)."""
    text, references = _normalized(prediction)
    return _best(_equal, text, references)


def squad_f1(prediction: TextPrediction) -> float:
    """Greatest F1 of words with a reference, normalised as above; 1 where text and reference are both empty.

    The script of SQuAD 2.0 (Rajpurkar et al. 2018). It differs from that of 1.1 only for empty texts.
    """
    text, references = _normalized(prediction)
    return _best(squad2_f1, text, references)


def contains_match(prediction: TextPrediction) -> float:
    """Whether the words of a reference, normalised as above, occur one after another in the text; `no` not in `know`.

    A reference that normalises to nothing occurs in an empty text alone.
    """
    text, references = _normalized(prediction)
    return float(any(f" {reference} " in f" {text} " for reference in references))


def coqa_em(prediction: TextPrediction) -> float:
    """CoQA's exact match (Reddy et al. 2019, official script): as `coqa_f1`."""
    text, references = _normalized(prediction)
    return _leave_one_out(_equal, text, references)


def coqa_f1(prediction: TextPrediction) -> float:
    """CoQA's F1 (Reddy et al. 2019, official script).

    Of several references each is left out once, the best F1 with the others is taken, and these are averaged: people
    are judged by the other people's answers, so a model must not have one reference more than they.
    """
    text, references = _normalized(prediction)
    return _leave_one_out(squad2_f1, text, references)


def quac_f1(prediction: TextPrediction) -> float:
    """QuAC's F1 (Choi et al. 2018, official script).

    `CANNOTANSWER` is the only reference if at least half of them say so, and is left out if fewer do; it must be
    generated exactly. Spans are judged as in `coqa_f1`. The script's headline number leaves out questions on which
    people agree with an F1 below 0.4; this is the number it calls unfiltered.
    """
    spans = [reference for reference in prediction.references if reference.strip() != CANNOT_ANSWER]
    if 2 * len(spans) <= len(prediction.references):
        return float(prediction.text.strip() == CANNOT_ANSWER)
    return _leave_one_out(token_f1, normalize(prediction.text), [normalize(span) for span in spans])


def referent_match(prediction: TextPrediction) -> float:
    """Whether the generated noun agrees with a right reference, or disagrees with a wrong one.

    WSC as generation, judged as in Raffel et al. 2020 (arXiv 1910.10683; `wsc_simple` of the T5 code): without
    determiners and in lower case, all words of one noun are among those of the other, and an apostrophe is in both or
    in neither. A text without words is wrong in either case.
    """
    words = _words_of_noun(prediction.text)
    named = any(_same_noun(words, _words_of_noun(reference)) for reference in prediction.references)
    return float(bool(words) and named == prediction.right)


def _words_of_noun(text: str) -> frozenset[str]:
    return frozenset(text.lower().split()) - DETERMINERS


def _same_noun(words: frozenset[str], others: frozenset[str]) -> bool:
    """Whether `fuzzy bunny` may be called `bunny`; `Bob` is not `Bob's hat`."""
    possessive, other_possessive = ("'" in "".join(each) for each in (words, others))
    return bool(others) and possessive == other_possessive and (words <= others or others <= words)


def _normalized(prediction: TextPrediction) -> tuple[str, list[str]]:
    return normalize(prediction.text), [normalize(reference) for reference in prediction.references]


def _equal(text: str, reference: str) -> float:
    return float(text == reference)


def _best(agreement: _Agreement, text: str, references: Sequence[str]) -> float:
    return max(agreement(text, reference) for reference in references)


def _leave_one_out(agreement: _Agreement, text: str, references: Sequence[str]) -> float:
    """Mean over references of the best agreement with the others; with the only one if there is one."""
    if len(references) == 1:
        return agreement(text, references[0])
    others = [[*references[:left_out], *references[left_out + 1 :]] for left_out in range(len(references))]
    return sum(_best(agreement, text, each) for each in others) / len(others)
