"""F1 of words in other languages, and of characters, against cases computed by hand from the rules of MLQA's script."""

import pytest

from icl_eval.errors import MetricError
from icl_eval.metrics import Signed, check_examples, estimate, metric

from .answered import corpus, wrote


def score(name: str, text: str, *references: str) -> float:
    return estimate(metric(name), [[wrote(text, *references)]]).value


@pytest.mark.parametrize(
    ("language", "text", "references", "em", "f1"),
    [
        ("en", "The White House!", ("white house", "x"), 1, 1),
        ("en", "a big white house", ("white house",), 0, 4 / 5),
        ("es", "¿En la casa?", ("una casa",), 0, 2 / 3),  # en casa; casa
        ("hi", "नमस्ते दुनिया।", ("नमस्ते  दुनिया",), 1, 1),
        ("vi", "những con mèo của tôi", ("con mèo",), 0, 4 / 5),
        ("de", "Eines der Häuser", ("das «Häuser»",), 1, 1),
        ("de", "Ein Haus", ("eins Haus",), 0, 2 / 3),  # no article
        ("ar", "البيت الكبير", ("بيت كبير",), 1, 1),
        ("ar", "سؤال", ("سؤ",), 1, 1),  # inside a word, too, as the script does
        ("zh", "天氣很好", ("天氣好",), 0, 6 / 7),  # 3 of 4 characters, 3 of 3
        ("zh", "在2020年，北京", ("2020年的北京",), 0, 8 / 10),
        ("zh", "New York市", ("newyork市",), 0, 2 / 5),  # of three and two tokens, one
        ("zh", "天　气", ("天气。",), 1, 1),
        ("en", "", ("the",), 1, 0),
    ],
)
def test_mlqa_in_its_languages(language: str, text: str, references: tuple[str, ...], em: float, f1: float) -> None:
    assert score(f"mlqa_em:language={language}", text, *references) == em
    assert score(f"mlqa_f1:language={language}", text, *references) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "references", "f1"),
    [
        ("天気はとても良い", ("良い天気",), 2 * 4 / (8 + 4)),
        ("กรุงเทพฯ", ("กรุงเทพ",), 2 * 7 / (7 + 7 + 1)),
        ("「東京」 です。", ("x", "東京です"), 1),
        ("Ab c", ("a-b C!",), 1),
        ("aab", ("abb",), 2 / 3),
        ("", ("",), 1),
        ("", ("東京",), 0),
    ],
)
def test_characters_are_counted(text: str, references: tuple[str, ...], f1: float) -> None:
    assert score("char_f1", text, *references) == pytest.approx(f1)


def test_language_stands_in_the_signature() -> None:
    measure = metric("mlqa_f1:language=zh")
    assert isinstance(measure, Signed)
    assert measure.signature([wrote("a", "a")]) == "mlqa:zh"


OF_WORDS = ["squad_f1", "contains_match", "coqa_f1", "quac_f1", "drop_f1", "mlqa_f1:language=en"]


@pytest.mark.parametrize(
    "reference", ["天气很好", "とても良い", "カタカナ", "อากาศดีมาก", "ອາກາດດີ", "អាកាសធាតុ", "ရာသီဥတု"]
)
def test_metrics_of_words_refuse_scripts_without_spaces(reference: str) -> None:
    for name in OF_WORDS:
        with pytest.raises(MetricError) as caught:
            check_examples(metric(name), [wrote("", reference)])

        assert str(caught.value).startswith(
            f"{name} splits texts at spaces, and most letters of the references are of scripts without spaces, such as "
            "Chinese, Japanese or Thai; `char_f1` "
        )


@pytest.mark.parametrize("reference", ["날씨가 좋다", "хорошая погода", "مدينة كبيرة", "नमस्ते दुनिया", "42", ""])
def test_metrics_of_words_take_other_scripts(reference: str) -> None:
    for name in OF_WORDS:
        check_examples(metric(name), [wrote("", reference)])


def test_stray_chinese_answers_in_an_english_task_are_taken() -> None:
    references = [["Yellow River"], ["黄河"], ["Peking", "北京"], ["Tea"]]
    for name in OF_WORDS:
        check_examples(metric(name), corpus(["", "", "", ""], references))


def test_most_letters_decide() -> None:
    check_examples(metric("squad_f1"), corpus(["", ""], [["ab天气"], ["。。。12"]]))
    with pytest.raises(MetricError, match="splits texts at spaces"):
        check_examples(metric("squad_f1"), corpus(["", ""], [["a天气"], ["12 345 …"]]))


def test_chinese_rule_refuses_japanese_and_thai() -> None:
    check_examples(metric("mlqa_f1:language=zh"), [wrote("", "天气很好")])
    for reference in ("これはとても良い", "อากาศดีมาก"):
        with pytest.raises(MetricError, match="splits texts at spaces and Chinese characters, and most letters"):
            check_examples(metric("mlqa_f1:language=zh"), [wrote("", reference)])


def test_an_underscore_is_punctuation() -> None:
    assert score("char_f1", "a_b", "ab") == 1.0
