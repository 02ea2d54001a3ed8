from __future__ import annotations

import pytest

from icl_eval.cli.progress import _Lines, duration


def test_a_line_a_minute_says_how_much_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(100, lambda: now)
    for now in (10.0, 59.0, 60.0, 90.0, 119.0, 125.0):  # noqa: B007
        lines.tick(10)
    said = capsys.readouterr()

    assert said.out == ""
    assert said.err.splitlines() == [
        "30 of 100 answers, about 2 min left",  # 30 took 60 s, so 70 take 140 s
        "60 of 100 answers, about 1 min left",  # 60 took 125 s, so 40 take 83 s
    ]


def test_a_run_that_may_end_before_counts_at_most_all_answers(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(1000, lambda: now, at_most=True)
    now = 60.0
    lines.tick(250)

    assert capsys.readouterr().err == "250 of at most 1,000 answers, at most 3 min left\n"


def test_nothing_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(10, lambda: now)
    now = 300.0
    lines.tick(10)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (59, "59 s"), (59.9, "1 min"), (3570, "1 h"), (11_100, "3 h 5 min")]
)
def test_a_duration_is_short(seconds: float, said: str) -> None:
    assert duration(seconds) == said
