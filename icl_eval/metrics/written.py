"""Scores of a generated text: exact and numerical match, and those of SQuAD, CoQA, QuAC and WSC in T5."""

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

_Agreement = Callable[[str, str], float]  # answer, reference -> score


def exact_match(prediction: TextPrediction, form: Callable[[str], str] = str.strip) -> float:
    """1 if the text equals a reference, except for white space at both ends, else 0.

    Used for arithmetic and scrambled words, whose answer must be generated exactly (Brown et al. 2020, section 3.9).

    Args:
        prediction: the text and its references.
        form: normal form in which texts are compared.
    """
    return float(form(prediction.text) in set(map(form, prediction.references)))


def exact_form(text: str, *, ignore_case: bool, ignore_punctuation: bool) -> str:
    """A text without white space at both ends, and if these are ignored, in lower case or without ASCII punctuation."""
    text = text.lower() if ignore_case else text
    return (text.translate(PUNCTUATION) if ignore_punctuation else text).strip()


def number_match(prediction: TextPrediction) -> float:
    """1 if the text is the same number as a reference, else 0: 18 equals 18.0, and $1,800 equals 1800.

    Texts that are not numbers are compared without white space at both ends.
    """
    return float(as_number(prediction.text) in map(as_number, prediction.references))


def as_number(text: str) -> Decimal | str:
    """The number in a text, without white space, dollar and percent signs, commas and a final full stop.

    A text that is not a number is returned without white space at both ends.
    """
    plain = "".join(text.split()).replace(",", "").replace("-$", "-").strip("$%").removesuffix(".")
    return Decimal(plain) if NUMBER.fullmatch(plain) else text.strip()


def squad_em(prediction: TextPrediction) -> float:
    """1 if the text equals a reference after SQuAD's normalisation, else 0 (Rajpurkar et al. 2016, section 6.1)."""
    text, references = _normalized(prediction)
    return _best(_equal, text, references)


def squad_f1(prediction: TextPrediction) -> float:
    """The highest F1 of words with a reference after SQuAD's normalisation; 1 if both texts are empty.

    This is the script of SQuAD 2.0 (Rajpurkar et al. 2018), which differs from that of 1.1 only for empty texts.
    """
    text, references = _normalized(prediction)
    return _best(squad2_f1, text, references)


def contains_match(prediction: TextPrediction) -> float:
    """1 if the text contains a reference as whole words after SQuAD's normalisation, else 0.

    Only an empty text contains a reference that is empty after normalisation.
    """
    text, references = _normalized(prediction)
    return float(any(f" {reference} " in f" {text} " for reference in references))


def coqa_em(prediction: TextPrediction) -> float:
    """Exact match of CoQA (Reddy et al. 2019, official script), with references as in `coqa_f1`."""
    text, references = _normalized(prediction)
    return _leave_one_out(_equal, text, references)


def coqa_f1(prediction: TextPrediction) -> float:
    """F1 of CoQA (Reddy et al. 2019, official script).

    If there are several references, each is left out once, and the highest F1 with the others is averaged. Human
    answers are compared with those of the other people, so a model does not get one reference more than they do.
    """
    text, references = _normalized(prediction)
    return _leave_one_out(squad2_f1, text, references)


def quac_f1(prediction: TextPrediction) -> float:
    """F1 of QuAC (Choi et al. 2018, official script).

    If at least half of the references are `CANNOTANSWER`, this is the only reference and must be generated exactly.
    Otherwise it is left out, and spans are scored as in `coqa_f1`. The main number of the script leaves out questions
    on which people agree with an F1 below 0.4; this function computes the number that it calls unfiltered.
    """
    spans = [reference for reference in prediction.references if reference.strip() != CANNOT_ANSWER]
    if 2 * len(spans) <= len(prediction.references):
        return float(prediction.text.strip() == CANNOT_ANSWER)
    return _leave_one_out(token_f1, normalize(prediction.text), [normalize(span) for span in spans])


def referent_match(prediction: TextPrediction) -> float:
    """1 if the generated noun matches a right reference, or does not match a wrong one, else 0.

    This is WSC with generated answers, as in Raffel et al. 2020 (arXiv 1910.10683; `wsc_simple` of the T5 code). Nouns
    are compared in lower case and without determiners. They match if all words of one are in the other, and both or
    neither have an apostrophe. A text without words is always wrong.
    """
    words = _words_of_noun(prediction.text)
    named = any(_same_noun(words, _words_of_noun(reference)) for reference in prediction.references)
    return float(bool(words) and named == prediction.right)


def _words_of_noun(text: str) -> frozenset[str]:
    return frozenset(text.lower().split()) - DETERMINERS


def _same_noun(words: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two nouns match: `bunny` matches `fuzzy bunny`, but `Bob` does not match `Bob's hat`."""
    possessive, other_possessive = ("'" in "".join(each) for each in (words, others))
    return bool(others) and possessive == other_possessive and (words <= others or others <= words)


def _normalized(prediction: TextPrediction) -> tuple[str, list[str]]:
    return normalize(prediction.text), [normalize(reference) for reference in prediction.references]


def _equal(text: str, reference: str) -> float:
    return float(text == reference)


def _best(agreement: _Agreement, text: str, references: Sequence[str]) -> float:
    return max(agreement(text, reference) for reference in references)


def _leave_one_out(agreement: _Agreement, text: str, references: Sequence[str]) -> float:
    """The highest agreement with all references but one, averaged over the left-out reference."""
    if len(references) == 1:
        return agreement(text, references[0])
    others = [[*references[:left_out], *references[left_out + 1 :]] for left_out in range(len(references))]
    return sum(_best(agreement, text, each) for each in others) / len(others)
