"""A completions endpoint on loopback, in this process: a tiny model in either form, with the habits a test gives it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

Reply = tuple[int, Mapping[str, str], bytes]
OPENAI = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "logprobs", "echo", "n"}
NAME = "tiny-served"
CHAT_TEMPLATE = (  # of its chat endpoint
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def failing(status: int, message: str = "not now", **headers: str) -> Reply:
    return status, headers, json.dumps({"error": {"message": message}}).encode()


def wait_for_nothing(patch: pytest.MonkeyPatch) -> list[float]:
    """Send requests again at once; grows by the seconds between attempts that are not waited for."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    patch.setattr(anyio, "sleep", sleep)
    return pauses


@dataclass
class Habits:
    """What a server does.

    Attributes:
        ids: it takes token ids; others answer 500, as llama-cpp-python does.
        listed: it knows `prompt_logprobs`.
        echoes: it knows `echo` with `logprobs`.
        strict: it refuses parameters that OpenAI does not have.
        adds_bos: it puts token 0 before every text.
        hides_bos: an echo leaves token 0 out at the beginning.
        shifts: an echo has the log-probabilities of the next position.
        names: it says which tokens were the most likely.
        chosen: it gives the log-probabilities of chosen tokens at generated ones, as vLLM does.
        top: it gives so many of the most likely tokens at generated ones, at most.
        counts: it says how many tokens it read and wrote.
        models: what it lists.
        lost: tokens missing from the front of what it shows.
        first: answers given before any other, to completions alone.
        always: an answer given to every completion from the `after`-th on.
        after: completions answered properly before `always`.
        limits: the names of the parameter that limits the tokens of a reply to messages.
        chat_logprobs: it gives the log-probabilities of a reply's tokens.
        reasoning: what it puts before each reply, apart from it.
        silent: from the `after`-th completion on, hold every answer back until the server ends.
        hangs_up: from the `after`-th completion on, close every connection instead of answering.
    """

    ids: bool = True
    listed: bool = True
    echoes: bool = True
    strict: bool = False
    adds_bos: bool = False
    hides_bos: bool = False
    shifts: bool = False
    names: bool = True
    chosen: bool = False
    top: int = 1
    counts: bool = True
    models: Any = ({"id": NAME, "max_model_len": 512},)
    lost: int = 0
    first: deque[Reply] = field(default_factory=deque)
    always: Reply | None = None
    after: int = 0
    limits: tuple[str, ...] = ("max_tokens",)
    chat_logprobs: bool = True
    reasoning: str = ""
    silent: bool = False
    hangs_up: bool = False


@lru_cache(maxsize=200)
def _rows(model: Any, tokens: tuple[int, ...]) -> NDArray[np.float64]:
    """`Completions.rows`, cached: the probes of a model send the same requests to each of its servers."""
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0].double()
    rows: NDArray[np.float64] = logits.log_softmax(dim=-1).numpy()
    return rows


class Completions:
    """A model and its tokenizer as a server, and the requests it received."""

    def __init__(self, model: Any, tokenizer: Any, habits: Habits) -> None:
        self.model, self.tokenizer, self.habits = model.eval(), tokenizer, habits
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.ended = threading.Event()
        self.turn = threading.Lock()

    def reply(self, body: dict[str, Any]) -> Reply | None:
        """What to answer; nothing to hang up."""
        habits = self.habits
        with self.turn:
            self.requests.append(body)
            count = len(self.requests)
        if habits.first:
            return habits.first.popleft()
        if count > habits.after:
            if habits.silent:
                self.ended.wait(20)
            if habits.hangs_up or habits.silent:
                return None
            if habits.always is not None:
                return habits.always
        if "messages" in body:
            return self.chat_reply(body)
        if isinstance(body["prompt"], list) and not habits.ids:
            return failing(500, "prompt: Input should be a valid string")
        if habits.strict and (unknown := set(body) - OPENAI):
            return failing(400, f"Unrecognized request argument supplied: {min(unknown)}")
        with self.turn:
            return 200, {}, json.dumps(self.completion(body)).encode()

    def chat_reply(self, body: dict[str, Any]) -> Reply:
        """The answer to messages, in the words of `CHAT_TEMPLATE`."""
        limit = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), "")
        if limit not in self.habits.limits:
            return failing(400, f"Unsupported parameter: {limit!r}")
        if body.get("logprobs") and not self.habits.chat_logprobs:
            return failing(500, "logprobs is not supported")
        transcript = "".join(f"{each['role']}: {each['content']}\n" for each in body["messages"])
        with self.turn:
            request = {**body, "prompt": f"{transcript}assistant:", "max_tokens": body[limit], "logprobs": 1}
            found = self.completion(request)
        (choice,) = found["choices"]
        values = choice.pop("logprobs")["token_logprobs"]
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"logprob": value} for value in values]}
        choice["message"] = {"role": "assistant", "content": choice.pop("text")}
        if self.habits.reasoning:
            choice["message"]["reasoning_content"] = self.habits.reasoning
        return 200, {}, json.dumps(found).encode()

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = self.tokens(body["prompt"])
        written, why = self.write(prompt, body)
        text = self.text(written)
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": why}
        if self.habits.listed:
            choice["stop_reason"] = next((stop for stop in body.get("stop", []) if stop in self.text(written)), None)
        rows = self.rows([*prompt, *written])
        if body.get("echo") and self.habits.echoes:
            choice["logprobs"] = self.echoed(prompt, written, rows)
        elif body.get("logprobs") and (self.habits.echoes or self.habits.listed):
            choice["logprobs"] = self.entries(prompt, written, rows)
            choice["logprobs"]["top_logprobs"] = [
                self.top_logprobs(rows[len(prompt) + position - 1], token, top, body)
                for position, (token, top) in enumerate(zip(written, choice["logprobs"]["top_logprobs"], strict=True))
            ]
        if "prompt_logprobs" in body and self.habits.listed:
            values = [self.entry(rows[position - 1], token) for position, token in enumerate(prompt) if position]
            choice["prompt_logprobs"] = [None, *values][self.habits.lost :]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(written)}
        return {"object": "text_completion", "choices": [choice], **({"usage": usage} if self.habits.counts else {})}

    def tokens(self, prompt: Any) -> list[int]:
        if isinstance(prompt, list):
            return prompt
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [0, *ids] if self.habits.adds_bos else ids

    def rows(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Log-probabilities of the next token after each, (tokens, vocabulary)."""
        return _rows(self.model, tuple(tokens))

    def write(self, prompt: list[int], body: Mapping[str, Any]) -> tuple[list[int], str]:
        written: list[int] = []
        draws = np.random.default_rng(body.get("seed", 0))
        for _ in range(body["max_tokens"]):
            row = self.rows([*prompt, *written])[-1]
            if body.get("temperature"):
                weights = np.exp(row / body["temperature"])
                written.append(int(draws.choice(len(row), p=weights / weights.sum())))
            else:
                written.append(int(row.argmax()))
            if written[-1] == 1 or any(stop in self.text(written) for stop in body.get("stop", [])):
                return (written[:-1] if written[-1] == 1 else written), "stop"
        return written, "length"

    def text(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text

    def echoed(self, prompt: list[int], written: list[int], rows: NDArray[np.float64]) -> dict[str, Any]:
        """The `logprobs` of an echo: the lists for all tokens."""
        later = 1 if self.habits.shifts else 0
        entries = self.entries([], [*prompt, *written], rows[later:])
        skipped = self.habits.lost + (self.habits.hides_bos and prompt[0] == 0)
        entries = {name: values[skipped:] for name, values in entries.items()}
        for name in ("token_logprobs", "top_logprobs"):
            entries[name][0] = None
        return entries

    def entries(self, before: list[int], tokens: list[int], rows: NDArray[np.float64]) -> dict[str, Any]:
        """The lists of `logprobs` for tokens that follow others."""
        found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for position, token in enumerate(tokens, start=len(before)):
            row = rows[min(max(position - 1, 0), len(rows) - 1)]
            best = int(row.argmax())
            found["tokens"].append(self.text([token]))
            found["token_logprobs"].append(float(row[token]))
            top = {self.text([best]): float(row[best]), self.text([token]): float(row[token])}
            found["top_logprobs"].append(top if self.habits.names else {self.text([token]): float(row[token])})
            found["text_offset"].append(len(self.text([*before, *tokens][:position])))
        return found

    def top_logprobs(
        self, row: NDArray[np.float64], token: int, top: dict[str, float], body: Mapping[str, Any]
    ) -> dict[str, float]:
        """The log-probabilities that `top_logprobs` gives at a generated token."""
        if self.habits.chosen and (chosen := body.get("logprob_token_ids")):
            assert body["return_tokens_as_token_ids"]
            return {f"token_id:{each}": float(row[each]) for each in {token, *chosen}}
        most = np.argsort(-row)[: min(int(body["logprobs"]), self.habits.top)]
        return {self.text([int(each)]): float(row[each]) for each in most} | top

    def entry(self, row: NDArray[np.float64], token: int) -> dict[str, Any]:
        """One position of `prompt_logprobs`."""
        best = int(row.argmax())
        reported = {token, best} if self.habits.names else {token}
        return {str(each): {"logprob": float(row[each]), "rank": int((row >= row[each]).sum())} for each in reported}


@contextmanager
def serving(served: Completions) -> Iterator[str]:
    """The URL of a running server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.keys.add(self.headers.get("Authorization"))
            self.answer((200, {}, json.dumps({"data": served.habits.models}).encode()))

        def do_POST(self) -> None:
            served.keys.add(self.headers.get("Authorization"))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(served.reply(body))

        def answer(self, reply: Reply | None) -> None:
            if reply is None:
                return
            status, headers, content = reply
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        served.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
