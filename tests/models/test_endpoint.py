from __future__ import annotations

import gzip
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from completions import Completions, Habits, Reply, failing, serving, wait_for_nothing

from icl_eval.errors import ModelError
from icl_eval.models.served import endpoint as http
from icl_eval.models.served.endpoint import Endpoint, Refusal

BODIES = [{"prompt": [number]} for number in range(6)]
PATH = "/completions"
MOST = http.MIN_BODY + http.PER_TOKEN  # bytes of an answer to one of them
NESTED = b"[" * 100_000 + b"]" * 100_000


class Echo(Completions):
    """Answers with the number it was given, and needs no model."""

    def __init__(self, habits: Habits) -> None:
        self.habits, self.requests, self.keys = habits, [], set()
        self.ended, self.turn = threading.Event(), threading.Lock()

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"number": body["prompt"][0]}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts, none of which is waited for."""
    return wait_for_nothing(monkeypatch)


def answers(url: str, bodies: Any = BODIES, **how: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    Endpoint(url, **how).post_all(PATH, bodies, lambda index, answer: found.update({index: answer["number"]}))
    return found


def sentence(url: str, **how: Any) -> str:
    with pytest.raises(ModelError) as caught:
        answers(url, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(url, "URL")


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_every_body_gets_the_answer_to_it(concurrency: int) -> None:
    with serving(served := Echo(Habits())) as url:
        assert answers(url, concurrency=concurrency) == {number: number for number in range(6)}
    assert len(served.requests) == 6


def test_one_request_at_a_time_keeps_the_order() -> None:
    with serving(served := Echo(Habits())) as url:
        answers(url, concurrency=1)

    assert served.requests == BODIES


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_transient_errors_are_retried(status: int) -> None:
    habits = Habits(first=deque([failing(status), failing(status)]))
    with serving(served := Echo(habits)) as url:
        assert answers(url, BODIES[:1], retries=2) == {0: 0}
    assert len(served.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final(status: int) -> None:
    with serving(served := Echo(Habits(always=failing(status, "no such thing")))) as url:
        assert sentence(url, concurrency=1) == f"URL/completions answers {status}: no such thing"
    assert len(served.requests) == 1


def test_retries_are_spent_with_a_sentence() -> None:
    with serving(served := Echo(Habits(always=failing(500, "out of\nmemory " + "x" * 400)))) as url:
        message = sentence(url, retries=3, concurrency=1)

    assert message == f"URL/completions answers 500: out of memory {'x' * 186} ...; tried 4 times"
    assert len(served.requests) == 4


def test_a_refusal_has_its_status() -> None:
    with serving(Echo(Habits(always=failing(503)))) as url, pytest.raises(Refusal) as caught:
        answers(url, retries=0)

    assert caught.value.status == 503


def test_a_server_says_how_long_to_wait(pauses: list[float]) -> None:
    replies = [failing(429, Retry_After="7"), failing(503, Retry_After="86400"), failing(429, Retry_After="soon")]
    with serving(Echo(Habits(first=deque(replies)))) as url:
        answers(url, BODIES[:1])

    assert pauses[:2] == [7.0, http.LONGEST_PAUSE]
    assert 2 <= pauses[2] <= 2.5


def test_a_server_says_until_when_to_wait(pauses: list[float]) -> None:
    replies = [failing(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    with serving(Echo(Habits(first=deque(replies)))) as url:
        answers(url, BODIES[:1])

    assert pauses == [0.0]


def test_pauses_grow_up_to_a_limit_and_differ(pauses: list[float]) -> None:
    for _ in range(2):
        with serving(Echo(Habits(always=failing(503)))) as url, pytest.raises(Refusal):
            answers(url, BODIES[:1], retries=9)

    first, second = pauses[:9], pauses[9:]
    assert len(second) == 9
    for least, *found in zip([0.5, 1, 2, 4, 8, 16, 30, 30, 30], first, second, strict=True):
        assert least <= min(found) <= max(found) <= least + 0.5
    assert first != second


def test_what_is_no_json_is_reported() -> None:
    with serving(Echo(Habits(always=(200, {}, b"<html>Welcome</html>")))) as url:
        assert sentence(url) == "URL/completions answers with invalid JSON: '<html>Welcome</html>'"


def test_a_server_that_is_slow_is_reported_and_left() -> None:
    with serving(served := Echo(Habits(silent=True))) as url:
        message = sentence(url, timeout=0.05, retries=1, concurrency=1)
        served.ended.set()

    assert message == "URL/completions gave no answer in 0.05 seconds; tried 2 times"


def test_a_server_that_hangs_up_is_reported() -> None:
    with serving(Echo(Habits(hangs_up=True))) as url:
        message = sentence(url, retries=1, concurrency=1)

    assert message.startswith("URL/completions cannot be reached: ")
    assert message.endswith("; tried 2 times")


def test_a_server_that_is_not_there_is_reported() -> None:
    with serving(Echo(Habits())) as url:
        pass

    assert sentence(url, retries=0).startswith("URL/completions cannot be reached: ")


def test_what_was_answered_before_a_failure_is_handed_over() -> None:
    found: list[int] = []
    with serving(Echo(Habits(always=failing(400), after=4))) as url, pytest.raises(Refusal):
        Endpoint(url, concurrency=1).post_all(PATH, BODIES, lambda index, _: found.append(index))

    assert found == [0, 1, 2, 3]


def test_answers_are_handed_over_in_the_calling_thread() -> None:
    found = set()
    with serving(Echo(Habits())) as url:
        Endpoint(url).post_all(PATH, BODIES, lambda *_: found.add(threading.current_thread()))

    assert found == {threading.current_thread()}


def test_an_interrupt_leaves_at_once_and_no_thread_stays() -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with serving(served := Echo(Habits(silent=True, after=1))) as url:
        before, began = ours(), time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Endpoint(url, timeout=20).post_all(PATH, BODIES, interrupted)

        assert time.monotonic() - began < 5
        assert ours() == before
        served.ended.set()


def test_an_error_of_the_taker_is_raised_unchanged() -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with serving(Echo(Habits())) as url, pytest.raises(ZeroDivisionError):
        Endpoint(url).post_all(PATH, BODIES, broken)


def test_the_key_goes_along_and_into_no_sentence() -> None:
    with serving(served := Echo(Habits(always=failing(401, "Incorrect API key: sekret-1")))) as url:
        message = sentence(url, key="sekret-1")

    assert served.keys == {"Bearer sekret-1"}
    assert message == "URL/completions answers 401: Incorrect API key: ***"


def test_without_a_key_none_is_sent() -> None:
    with serving(served := Echo(Habits())) as url:
        answers(url)

    assert served.keys == {None}


def ours() -> list[str]:
    """Threads but those of the server."""
    return sorted(thread.name for thread in threading.enumerate() if "process_request_thread" not in thread.name)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 2**23)),
            f"answers more than {MOST} bytes, compressed",
        ),
        ((200, {}, b" " * 2**23), f"answers more than {MOST} bytes"),
        ((500, {}, b" " * 2**23), f"answers more than {MOST} bytes"),
        ((200, {"Content-Encoding": "br"}, b"x"), "answers in the encoding 'br', which was not requested"),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "answers with invalid gzip"),
        (
            (200, {"Content-Encoding": "gzip"}, gzip.compress(b"{}")[:-1]),
            "answers with a compressed text that is cut off",
        ),
        ((200, {}, NESTED), "answers with invalid JSON (nested too deeply): '[[["),
        ((400, {}, NESTED), "answers 400: [[["),
        ((200, {}, b'{"number": "\\ud800"}'), "answers with invalid JSON (half of a surrogate pair): "),
        ((200, {}, b'{"number": ' + b"1" * 5000 + b"}"), "answers with invalid JSON (Exceeds the limit"),
    ],
    ids=range(10),
)
def test_what_a_server_sends_is_bounded_and_checked(reply: Reply, message: str) -> None:
    with serving(Echo(Habits(always=reply))) as url:
        assert sentence(url, concurrency=1, retries=0).startswith(f"URL/completions {message}")


def test_a_compressed_answer_is_read() -> None:
    reply = (200, {"Content-Encoding": "gzip"}, gzip.compress(b'{"number": 7}'))
    with serving(Echo(Habits(always=reply))) as url:
        assert answers(url, BODIES[:1]) == {0: 7}


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings that the package logs, whatever handlers a library has added to the root logger."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, listener = logging.getLogger("icl_eval"), Listener()
    logger.addHandler(listener)
    yield messages
    logger.removeHandler(listener)


@pytest.mark.parametrize("header", ["nan", "inf", "9" * 400])
def test_no_pause_is_longer_than_the_longest_and_the_user_is_informed(
    header: str, pauses: list[float], warnings: list[str]
) -> None:
    with serving(Echo(Habits(first=deque([failing(429, "slowly", Retry_After=header)])))) as url:
        answers(url, BODIES[:1])

    assert pauses == [0.0 if header == "nan" else http.LONGEST_PAUSE]
    message = f"{url}/completions answers 429: slowly; retrying in 120 seconds (1 of 6 times)"
    assert warnings == ([] if header == "nan" else [message])
