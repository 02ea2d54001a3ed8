from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_rows import ToyRows

from icl_eval.engine import Engine, Journal, MemoryJournal
from icl_eval.errors import ModelError, RunError
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, OutOfMemory, ScoreRequest, TextSink
from icl_eval.testing import FakeLM

WAYS = [Decoding(9), Decoding(9, beams=3), Decoding(9, samples=2, temperature=1.0), Decoding(9, (), seed=1)]
REQUESTS = [GenerateRequest.of([65, token], decoding) for token in (70, 71) for decoding in WAYS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def run(path: Path, requests: Sequence[GenerateRequest] = REQUESTS) -> tuple[list[GenerateAnswer], int]:
    """Answers, and how many of them the model gave."""
    model = FakeLM()
    with Journal(path) as journal:
        return Engine(model, journal).answer(requests), model.answered


def test_every_request_is_answered_once_and_in_order() -> None:
    model, ticks = FakeLM(), list[int]()
    engine = Engine(model, tick=ticks.append)

    answers = engine.answer([*REQUESTS, *REQUESTS[::-1]])

    assert answers == answers[::-1]
    assert [answer.tokens for answer in answers[:4]] == [(9,), (9,), (9, 9), (9,)]
    assert (model.answered, engine.computed, sum(ticks)) == (8, 8, 16)
    assert engine.tokens == 8 * 2 + 2 * (9 + 9 + 18 + 9)


def test_a_second_run_generates_nothing(path: Path) -> None:
    first, first_answered = run(path)
    lines = path.read_bytes()

    assert first_answered == len(REQUESTS) == len(lines.splitlines())
    assert run(path) == (first, 0)
    assert path.read_bytes() == lines


def test_texts_of_any_characters_are_read_back(path: Path) -> None:
    model = FakeLM({"?": ' "é"\r\u2028😀\\n\x00'})
    request = GenerateRequest.of(list(b"?"), Decoding(30, ("\n",)))

    with Journal(path) as journal:
        first = Engine(model, journal).answer([request])
    with Journal(path) as journal:
        again = Engine(FakeLM({"?": ' "é"\r\u2028😀\\n\x00'}), journal).answer([request])

    assert first[0].texts[0].startswith(' "é"\r\u2028😀\\n\x00')
    assert again == first


def test_scores_and_texts_share_a_journal(path: Path) -> None:
    with Journal(path) as journal:
        engine = Engine(FakeLM(), journal)
        scored, texts = engine.answer([ScoreRequest.of([65], [70])]), engine.answer(REQUESTS[:1])
    with Journal(path) as journal:
        again = Engine(FakeLM(), journal)
        assert (again.answer([ScoreRequest.of([65], [70])]), again.answer(REQUESTS[:1])) == (scored, texts)
        assert again.reused == 2


@pytest.mark.parametrize(
    "damage",
    [
        b'{"key":"k","texts":["a"],"tokens":[1],"finished":["end"]}',
        b'{"key":"k","texts":["a"],"tokens":[1],"finished":["end"],"scores":[]}',
        b'{"key":"k","texts":["a","b"],"tokens":[1],"finished":["end"],"scores":[-1]}',
        b'{"key":"k","texts":[1],"tokens":[1],"finished":["end"],"scores":[-1]}',
        b'{"key":"k","texts":["a"],"tokens":[1],"finished":["end"],"scores":[NaN]}',
        b'{"key":"k","texts":["a"],"tokens":["x"],"finished":["end"],"scores":[-1]}',
        b'{"key":"k","texts":"a","tokens":[1],"finished":[null],"scores":[-1]}',
    ],
)
def test_a_damaged_text_is_an_error(path: Path, damage: bytes) -> None:
    path.write_bytes(damage + b"\n")

    with pytest.raises(RunError, match=r"answers\.jsonl:1: this line of the journal is damaged"):
        Journal(path)


KILLED = """
import os, signal, sys
sys.path.insert(0, "tests")
from pathlib import Path
from icl_eval.engine import Engine, Journal
from icl_eval.testing import FakeLM
from tests.engine.test_generate import REQUESTS

class Doomed(FakeLM):
    def _wanted(self, context):
        if self.answered > int(answered):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._wanted(context)

for path, answered in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    if os.fork() == 0:
        Engine(Doomed(), Journal(Path(path))).answer(REQUESTS)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform kills otherwise")
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    counts = (0, 5)
    paths = [tmp_path / f"killed-after-{answered}.jsonl" for answered in counts]
    words = [str(word) for pair in zip(paths, counts, strict=True) for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    answers, _ = run(tmp_path / "whole")

    assert done.stdout.split() == [str(-int(signal.SIGKILL))] * 2
    assert [len(path.read_bytes().splitlines()) for path in paths] == [*counts]
    assert [run(path) for path in paths] == [(answers, len(REQUESTS) - answered) for answered in counts]


def test_texts_fit_the_window_with_their_prompt() -> None:
    model = FakeLM(window=10)

    answers = Engine(model).answer([GenerateRequest.of([65] * size, Decoding(8, ())) for size in (1, 2, 3, 9)])

    assert [answer.tokens for answer in answers] == [(8,), (8,), (7,), (1,)]
    assert {answer.finished for answer in answers} == {("length",)}
    with pytest.raises(ModelError, match="a prompt of 10 tokens leaves no room to generate: the context length is 10"):
        Engine(model).answer([GenerateRequest.of([65] * 10, Decoding(8))])


def test_a_text_that_another_window_cut_is_generated_again() -> None:
    store, request = MemoryJournal(), GenerateRequest.of([65] * 5, Decoding(8, ()))

    assert Engine(FakeLM(window=10), store).answer([request])[0].tokens == (5,)
    assert Engine(FakeLM(window=20), store).answer([request])[0].tokens == (8,)


def test_a_model_that_cannot_generate_is_an_error() -> None:
    with pytest.raises(ModelError, match="ToyRows cannot generate text"):
        Engine(ToyRows()).answer([GenerateRequest.of([1], Decoding(1))])


class Failing(FakeLM):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        super().generate(requests[:1], sink)
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OutOfMemory("full"), "generating after one prompt of up to 2 tokens does not fit the device's memory: full"),
        (
            FloatingPointError("log-probabilities are not numbers"),
            "the model's log-probabilities are not numbers; its w",
        ),
    ],
)
def test_what_a_model_cannot_do_is_one_sentence_and_its_answers_are_kept(error: Exception, sentence: str) -> None:
    store = MemoryJournal()

    with pytest.raises(ModelError, match=sentence):
        Engine(Failing(error), store).answer(REQUESTS[:2])

    assert Engine(FakeLM(), store).answer(REQUESTS[:1])
    assert store.get(REQUESTS[0].key(FakeLM().fingerprint)) is not None


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), 0.5])
def test_a_score_that_is_no_log_probability_is_an_error(score: float) -> None:
    class Broken(FakeLM):
        def generate(self, requests: Sequence[GenerateRequest], sink: Any) -> None:
            sink(0, GenerateAnswer(("a",), (1,), ("end",), (score,)))

    with pytest.raises(ModelError, match="the model returns a log-probability of"):
        Engine(Broken()).answer(REQUESTS[:1])
