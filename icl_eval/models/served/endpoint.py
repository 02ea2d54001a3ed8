"""Requests to a server: several at a time, each retried after errors that may be transient.

Requests run in an event loop in a thread of its own, so that an interrupt or an error cancels all of them. The caller's
function is called in its own thread, once for each answer, in the order of arrival.
"""

from __future__ import annotations

import json
import logging
import ssl
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from queue import SimpleQueue
from typing import Any

import anyio
import httpx2
from anyio import create_task_group
from anyio.from_thread import start_blocking_portal
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from icl_eval.errors import ModelError

BACKOFF = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 0.5)  # seconds
LONGEST_PAUSE = 120.0  # seconds; the longest pause that a server may request
REPORTED_PAUSE = 1.0  # seconds; shorter pauses are not reported
MIN_BODY, PER_TOKEN = 2**22, 2**10
"""Maximum size of an answer in bytes: a constant, and an amount for each token or character of its request."""
UNSUPPORTED = (400, 422)  # status for a request that the server does not support
AMBIGUOUS = (500, 501)  # status for a request that the server does not support, or of a server that does not work
CONNECTING = 10.0  # seconds to connect, or the timeout if that is less
MAX_QUOTED = 200  # maximum number of characters that are quoted from a server's message

Body = Mapping[str, Any]
Outcome = tuple[int, Any] | BaseException


class Refusal(ModelError):  # noqa: N818 - it reads as what it says
    """A server answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class _TransientError(Exception):
    """An error after which the request is retried.

    Attributes:
        status: the status of the answer; None if there was no answer.
        pause: the pause that the server requested, in seconds; None if it did not.
    """

    def __init__(self, message: str, status: int | None = None, pause: float | None = None) -> None:
        self.status, self.pause = status, pause
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API of a server.

    Args:
        url: the URL to which paths such as `/completions` are appended.
        key: the API key, sent as a bearer token; it never appears in messages.
        concurrency: maximum number of requests in flight.
        timeout: seconds without any data after which a request fails.
        retries: number of retries after a lost connection, a timeout, or a status of 408, 429, or at least 500.
    """

    url: str
    key: str | None = None
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6

    @contextmanager
    def named(self) -> Iterator[None]:
        """Begin the message of an error that the block raises with the server's URL, unless the message contains it.

        Raises:
            ModelError: the block raised one.
        """
        try:
            yield
        except ModelError as error:
            if self.url in str(error):
                raise
            raise type(error)(f"{self.url}: {error}") from error

    def get(self, path: str, retries: int) -> Any:
        """The JSON at a path.

        Raises:
            ModelError: the request failed; the message contains the URL and the server's message.
        """
        return self._only(_Query("GET", path), retries)

    def post(self, path: str, body: Body, final: Collection[int] = ()) -> Any:
        """The JSON of the answer to a request with this body; not retried after a status in `final`.

        Raises:
            Refusal: the server answered with an error status.
            ModelError: the request failed for another reason.
        """
        return self._only(_Query("POST", path, body, final), self.retries)

    def post_all(self, path: str, bodies: Sequence[Body], take: Callable[[int, Any], None]) -> None:
        """Send a request for each body, in order; call `take` with the index and the answer of each as it arrives.

        Raises:
            ModelError: a request failed after all retries; `take` has been called with the answers before.
        """
        self._send([_Query("POST", path, body) for body in bodies], self.retries, take)

    def _only(self, query: _Query, retries: int) -> Any:
        found: list[Any] = []
        self._send([query], retries, lambda _, answer: found.append(answer))
        return found[0]

    def _send(self, queries: Sequence[_Query], retries: int, take: Callable[[int, Any], None]) -> None:
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
        with start_blocking_portal() as portal:
            portal.start_task_soon(self._work, iter(list(enumerate(queries))), retries, outcomes)
            for _ in queries:
                outcome = outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                take(*outcome)

    async def _work(self, waiting: Iterator[tuple[int, _Query]], retries: int, outcomes: SimpleQueue[Outcome]) -> None:
        try:
            async with self._client() as client, create_task_group() as group:
                for _ in range(self.concurrency):
                    group.start_soon(self._serve, client, waiting, retries, outcomes)
        except BaseException as error:  # the calling thread waits until it gets an outcome
            outcomes.put(error)
            raise

    async def _serve(
        self,
        client: httpx2.AsyncClient,
        waiting: Iterator[tuple[int, _Query]],
        retries: int,
        outcomes: SimpleQueue[Outcome],
    ) -> None:
        for index, query in waiting:
            try:
                outcomes.put((index, await self._answer(client, query, retries)))
            except ModelError as error:
                outcomes.put(error)
                return

    async def _answer(self, client: httpx2.AsyncClient, query: _Query, retries: int) -> Any:
        retrying = AsyncRetrying(
            sleep=anyio.sleep,
            stop=stop_after_attempt(retries + 1),
            wait=_pause,
            retry=retry_if_exception_type(_TransientError),
            before_sleep=lambda state: self._report_pause(state, query, retries),
            reraise=True,
        )
        try:
            return await retrying(self._once, client, query)
        except _TransientError as error:
            message = self._without_key(f"{self.url}{query.path} {error}")
            times = f"; tried {retries + 1} times" if retries else ""
            if error.status is None:
                raise ModelError(f"{message}{times}") from error
            raise Refusal(f"{message}{times}", error.status) from error

    async def _once(self, client: httpx2.AsyncClient, query: _Query) -> Any:
        where = f"{self.url}{query.path}"
        try:
            async with client.stream(query.method, where, json=query.body) as response:
                content = await _content(response, query.max_bytes)
        except _Unreadable as error:
            raise ModelError(f"{where} {error}") from error
        except httpx2.TimeoutException as error:
            raise _TransientError(f"gave no answer in {self.timeout:g} seconds") from error
        except httpx2.TransportError as error:
            raise _TransientError(f"cannot be reached: {_one_line(str(error) or type(error).__name__)}") from error
        except httpx2.RequestError as error:
            raise ModelError(f"{where} cannot be read: {_one_line(str(error))}") from error
        status = response.status_code
        if (status in (408, 429) or status >= 500) and status not in query.final:
            raise _TransientError(f"answers {status}{_message(content)}", status, _retry_after(response))
        if not response.is_success:
            raise Refusal(self._without_key(f"{where} answers {status}{_message(content)}"), status)
        try:
            return _parsed(content)
        except ValueError as error:
            reason = "" if isinstance(error, json.JSONDecodeError) else f" ({error})"
            text = _one_line(content.decode(errors="replace"))
            raise ModelError(self._without_key(f"{where} answers with invalid JSON{reason}: {text!r}")) from error

    def _report_pause(self, state: RetryCallState, query: _Query, retries: int) -> None:
        error, seconds = state.outcome and state.outcome.exception(), state.next_action and state.next_action.sleep
        if seconds and seconds >= REPORTED_PAUSE:
            message = self._without_key(f"{self.url}{query.path} {error}")
            again = f"retrying in {seconds:.0f} seconds ({state.attempt_number} of {retries} times)"
            logging.getLogger("icl_eval").warning("%s; %s", message, again)

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=_certificates(),
            headers={"Accept-Encoding": "gzip"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECTING), pool=None),
            limits=httpx2.Limits(max_connections=self.concurrency),
        )

    def _without_key(self, message: str) -> str:
        """The message without the API key, which a server's message may repeat."""
        return message.replace(self.key, "***") if self.key else message


@cache
def _certificates() -> ssl.SSLContext:
    """The trusted certificates; cached, because reading them may take longer than a request."""
    return httpx2.create_ssl_context()


@dataclass(frozen=True, slots=True)
class _Query:
    method: str
    path: str
    body: Body | None = None
    final: Collection[int] = ()  # statuses that are not retried

    @property
    def max_bytes(self) -> int:
        """Maximum size of the answer in bytes."""
        body = self.body or {}
        generated = body.get("max_tokens", body.get("max_completion_tokens", 0))
        return MIN_BODY + PER_TOKEN * (len(body.get("prompt", "")) + int(generated))


class _Unreadable(Exception):  # noqa: N818 - it reads as what it says
    """The body of an answer is too large, or cannot be decompressed."""


async def _content(response: httpx2.Response, most: int) -> bytes:
    """The decompressed body of an answer.

    Raises:
        _Unreadable: it has more than `most` bytes, or cannot be decompressed.
    """
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > most:
            raise _Unreadable(f"answers more than {most} bytes")
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if coding == "identity":
        return bytes(raw)
    if coding != "gzip":
        raise _Unreadable(f"answers in the encoding {_one_line(coding)!r}, which was not requested")
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = unzip.decompress(raw, most + 1)
    except zlib.error as error:
        raise _Unreadable("answers with invalid gzip") from error
    if len(content) > most:
        raise _Unreadable(f"answers more than {most} bytes, compressed in {len(raw)}")
    if not unzip.eof:
        raise _Unreadable("answers with a compressed text that is cut off")
    return content


def _parsed(content: bytes) -> Any:
    """The parsed JSON of a body.

    Raises:
        ValueError: it is invalid, nested too deeply, or has half of a surrogate pair in a string.
    """
    try:
        parsed = json.loads(content)
        if b"\\ud" in content.lower():
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair") from error
    return parsed


def _pause(state: RetryCallState) -> float:
    """Seconds to wait before the next attempt: as the server requested, or by exponential backoff."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _TransientError) and error.pause is not None:
        return min(error.pause, LONGEST_PAUSE)
    return float(BACKOFF(state))


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds to wait by the header `Retry-After`, a number or a date (RFC 9110, section 10.2.3); None without it."""
    value = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(value))  # 0 for NaN
    with suppress(ValueError, TypeError):
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _message(content: bytes) -> str:
    """The message in the body of an error response, whatever form it has, after a colon; empty if there is none."""
    found: Any = None
    with suppress(ValueError):
        found = _parsed(content)
    for name in ("error", "message", "detail"):
        found = found.get(name, found) if isinstance(found, dict) else found
    text = _one_line(found if isinstance(found, str) else content.decode(errors="replace"))
    return f": {text}" if text else ""


def _one_line(text: str) -> str:
    line = " ".join(text[: 8 * MAX_QUOTED].split())
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]} ..."
