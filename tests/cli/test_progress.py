from __future__ import annotations

import pytest

from icl_eval.cli.progress import _Lines, duration


def test_a_line_per_minute_states_the_remaining_time(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(100, lambda: now)
    for now in (10.0, 59.0, 60.0, 90.0, 119.0, 125.0):  # noqa: B007
        lines.tick(10)
    captured = capsys.readouterr()

    assert captured.out == ""
    assert captured.err.splitlines() == [
        "30 of 100 answers, about 2 min left",  # 30 took 60 s, so 70 take 140 s
        "60 of 100 answers, about 1 min left",  # 60 took 125 s, so 40 take 83 s
    ]


def test_progress_of_a_run_that_may_stop_early_is_an_upper_bound(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(1000, lambda: now, at_most=True)
    now = 60.0
    lines.tick(250)

    assert capsys.readouterr().err == "250 of at most 1,000 answers, at most 3 min left\n"


def test_no_line_is_printed_after_the_last_answer(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(10, lambda: now)
    now = 300.0
    lines.tick(10)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "1 s"), (59, "59 s"), (59.9, "1 min"), (3570, "1 h"), (11_100, "3 h 5 min")]
)
def test_duration_is_rounded_to_two_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
