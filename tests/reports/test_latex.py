from __future__ import annotations

import re
from dataclasses import replace

import pytest

from icl_eval.metrics import METRIC_NAMES, lower_is_better
from icl_eval.reports import render
from icl_eval.reports.latex import escaped
from icl_eval.results.result import Result, Sweep

from .lines import MANIFEST, RTE, RTE_32

LARGE = MANIFEST.model_copy(update={"model_name": "large"})


def bold(text: str) -> list[str]:
    return re.findall(r"\\mathbf\{([^}]*)\}", text)


def test_the_best_number_of_shots_is_bold_and_errors_follow() -> None:
    text = render([RTE, RTE_32], MANIFEST, "latex")

    assert bold(text) == ["0.580"]
    assert r"$0.563 \pm 0.030$ & $\mathbf{0.580} \pm 0.030$" in text


def test_the_best_model_is_bold_for_each_number_of_shots() -> None:
    better = replace(RTE, value=0.61)
    sweep = Sweep((Result((RTE, RTE_32), MANIFEST), Result((better, replace(RTE_32, value=0.4)), LARGE)))

    assert bold(sweep.table("latex")) == ["0.580", "0.610"]
    assert bold(Sweep((Result((RTE,), MANIFEST), Result((better,), LARGE))).table("latex")) == ["0.610"]


def test_the_lowest_perplexity_is_the_best_and_of_unknown_metrics_none_is() -> None:
    lines = [replace(score, metric="word_perplexity") for score in (RTE, RTE_32)]

    assert bold(render(lines, MANIFEST, "latex")) == ["0.563"]
    assert bold(render([replace(line, metric="evaluate:mauve") for line in lines], MANIFEST, "latex")) == []


def test_every_error_loss_and_perplexity_is_better_lower() -> None:
    assert [name for name in METRIC_NAMES if lower_is_better(name)] == [
        *("answer_loss", "perplexity", "token_perplexity", "word_perplexity", "byte_perplexity", "per_shot_loss"),
        *("token_loss", "bits_per_byte", "ter", "in_context_score"),
    ]


@pytest.mark.parametrize("character", "\\{}$&#%_^~")
def test_no_name_is_a_command_of_latex(character: str) -> None:
    assert re.sub(r"\\text\w+\{\}|\\[&%$#_{}]", "", escaped(f"a{character}b")) == "ab"


def test_control_and_direction_characters_are_left_out() -> None:
    hostile = MANIFEST.model_copy(update={"note": "no\u202ete\x1b[31m"})

    assert escaped("a\u202eb\x1b c\x07\u200f") == "ab c"
    assert "% note: note[31m\n" in render([RTE], hostile, "latex")


def test_what_stands_above_cannot_leave_its_comment() -> None:
    hostile = MANIFEST.model_copy(update={"note": "one\n\\input{secret}\rtwo\u2028three"})
    text = render([RTE], hostile, "latex")

    assert [line for line in re.split(r"[\n\r\u2028]", text) if "input" in line or "three" in line] == [
        "% note: one \\input{secret} two three"
    ]
