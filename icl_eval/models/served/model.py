"""A model behind an OpenAI-compatible completions endpoint.

Requests contain token ids, or text that is checked to have these tokens. They are sorted by tokens, so that the server
can use its prefix cache. The weights are unknown, so the fingerprint has only the model's name.
"""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models.decoding import Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.options import LoadConfig, ModelConfig
from icl_eval.models.protocol import ScoreAnswer, ScoreRequest, Sink
from icl_eval.models.served.completions_format import (
    MissingField,
    checked_logprob,
    choice_of,
    completion_tokens,
    logprobs_of,
)
from icl_eval.models.served.endpoint import Body, Endpoint, Refusal
from icl_eval.models.served.probing import COMPLETIONS, detect_formats
from icl_eval.models.tokenization import UNKNOWN_LENGTH, TokenizerModel, bos_tokens, tokenizer_digest

KEYS = ("ICL_EVAL_API_KEY", "OPENAI_API_KEY")  # environment variables with the API key, in order of precedence
SPARE = 2  # tokens of the server's window for the last scored token, which it reads, too, and for a generated token


class ServedLM(TokenizerModel):
    """A model that is served by a completions endpoint.

    Args:
        endpoint: the endpoint.
        tokenizer: the model's tokenizer of `transformers`.
        name: the name of the model at the endpoint and in tables.
        reported_window: the context length that the endpoint reports; None if it does not.
        bos: whether every text begins with the BOS token; by default if the tokenizer adds it.
        window: context length in tokens; by default that of the endpoint or of the tokenizer.

    Raises:
        ModelError: the context length is unknown, or the endpoint returns no log-probabilities of prompts, or shifted
            ones.
    """

    lock = nullcontext()

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: Any,
        name: str,
        reported_window: int | None = None,
        bos: bool | None = None,
        window: int | None = None,
    ) -> None:
        self._endpoint, start = endpoint, bos_tokens(tokenizer, bos)
        with endpoint.named():
            self.window = _window(reported_window, tokenizer, window)
            self.completions, self.next_token = detect_formats(endpoint, name, tokenizer, start)
        super().__init__(tokenizer, name, start, takes_ids=self.completions.text_prompt is None)
        form = f"{self.completions.name}{f'+{self.next_token.name}' if self.next_token else ''}"
        self.precision = f"served:{form}"
        self.fingerprint = f"served|{name}|{tokenizer_digest(tokenizer)}|{form}|bos{len(self.start)}"

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        """Score continuations; call `sink` with each answer as it arrives.

        Raises:
            ModelError: the endpoint does not answer, or its answer is for other tokens.
        """
        others = {*range(len(requests))} - self._score_next(requests, sink)
        order = sorted(others, key=lambda index: requests[index].tokens)
        bodies = [self.completions.scoring(requests[index].tokens) for index in order]

        def take(position: int, answer: Any) -> None:
            request = requests[order[position]]
            with self._endpoint.named():
                found = self.completions.prompt_logprobs(answer, request.tokens, request.boundary)
            greedy = all(each.logprob >= each.best for each in found)
            sink(order[position], ScoreAnswer(tuple(each.logprob for each in found), greedy))

        self._endpoint.post_all(COMPLETIONS, bodies, take)

    def _score_next(self, requests: Sequence[ScoreRequest], sink: Sink) -> set[int]:
        """Answer requests with one scored token by next-token log-probabilities, if possible; return their indices."""
        if (form := self.next_token) is None:
            return set()
        queries, answered = form.queries(requests), set[int]()

        def take(position: int, answer: Any) -> None:
            query = queries[position]
            tokens = {index: requests[index].tokens[-1] for index in query.indices}
            with self._endpoint.named():
                found = form.read(answer, query.context, [*tokens.values()])
            for index, token in tokens.items():
                if token in found:
                    sink(index, ScoreAnswer((found[token].logprob,), found[token].logprob >= found[token].best))
                    answered.add(index)

        self._endpoint.post_all(COMPLETIONS, [query.body for query in queries], take)
        return answered

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate texts, with one request per sample; call `sink` with each answer as soon as it is complete.

        Raises:
            ModelError: beam search is requested, or the endpoint does not answer.
        """

        def body(request: GenerateRequest, options: Body) -> Body:
            return self.completions.generation(request.tokens, **options)

        generate_texts(self._endpoint, COMPLETIONS, requests, body, completion_of, sink)


class ServedText(NamedTuple):
    """One generated text; the fields are those of `GenerateAnswer`."""

    text: str
    tokens: int
    finished: str
    score: float


def generate_texts(
    endpoint: Endpoint,
    path: str,
    requests: Sequence[GenerateRequest],
    body: Callable[[GenerateRequest, Body], Body],
    read: Callable[[Any, Decoding], ServedText],
    sink: TextSink,
) -> None:
    """Generate texts in the order of their prompts; call `sink` with each answer as soon as it is complete.

    Args:
        endpoint: the server.
        path: the path to which requests are sent.
        requests: prompts and their decoding.
        body: makes the body of a request from a request and the parameters of its decoding.
        read: parses an answer.
        sink: takes the index of a request and its answer.

    Raises:
        ModelError: beam search is requested, or the endpoint does not answer.
    """
    if (beams := max((request.decoding.beams for request in requests), default=1)) > 1:
        raise ModelError(f"an endpoint has no beam search, but {beams} beams are requested; use `beams: 1`")
    order = sorted(range(len(requests)), key=lambda index: requests[index].tokens)
    samples = [(index, sample) for index in order for sample in range(requests[index].decoding.samples)]
    bodies = [body(requests[index], _sampling_options(requests[index], sample)) for index, sample in samples]
    generated: defaultdict[int, dict[int, ServedText]] = defaultdict(dict)

    def take(position: int, answer: Any) -> None:
        index, sample = samples[position]
        decoding = requests[index].decoding
        with endpoint.named():
            generated[index][sample] = read(answer, decoding)
        if len(generated[index]) == decoding.samples:
            texts = generated.pop(index)
            sink(index, GenerateAnswer(*zip(*(texts[sample] for sample in range(decoding.samples)), strict=True)))

    endpoint.post_all(path, bodies, take)


def completion_of(answer: Any, decoding: Decoding) -> ServedText:
    """The text in the answer of a completions endpoint.

    Raises:
        ModelError: the answer lacks a field, or the text ended neither at a stop nor at its maximum length.
    """
    choice = choice_of(answer)
    text, values = choice.get("text"), logprobs_of(choice).get("token_logprobs")
    if not isinstance(text, str) or not isinstance(values, list):
        raise MissingField("the server's answer has no `text` or no `token_logprobs`")
    return ended_text(answer, text, decoding, values)


def ended_text(answer: Any, text: str, decoding: Decoding, logprobs: Sequence[Any]) -> ServedText:
    """A generated text up to a stop string, and why it ended.

    Args:
        answer: the answer of the server.
        text: the text in the answer, which may contain stop strings.
        decoding: how it was generated.
        logprobs: log-probabilities of its tokens, in nats.

    Raises:
        ModelError: the text ended neither at a stop nor at its maximum length, or a log-probability is invalid.
    """
    choice, end, counted = choice_of(answer), decoding.end_of(text), completion_tokens(answer)
    if (why := choice.get("finish_reason")) not in ("stop", "length"):
        raise ModelError(f"the server ended a text with the unknown `finish_reason` {reprlib.repr(why)}")
    tokens = len(logprobs) if counted is None else counted
    score = sum(map(checked_logprob, logprobs))
    return ServedText(text[:end], tokens, _ending(choice, decoding, cut=end is not None), score)


def _sampling_options(request: GenerateRequest, sample: int) -> dict[str, Any]:
    """The parameters of a request for one sample; its seed only depends on the decoding, the prompt and its number."""
    decoding = request.decoding
    options: dict[str, Any] = {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature}
    if stops := _stops(decoding):
        options["stop"] = stops
    if decoding.temperature:
        digest = hashlib.blake2b(f"{decoding.seed}:{sample}:".encode() + request.tokens.tobytes(), digest_size=4)
        options |= {"top_p": decoding.top_p, "seed": int.from_bytes(digest.digest(), "big") >> 1}
    return options


def _stops(decoding: Decoding) -> list[str]:
    """The stop strings for a server; not those of the answer if there is reasoning, in which it would stop, too."""
    answer = list(decoding.stop) if decoding.reasoning_end is None else []
    return [*answer, *([decoding.reply_end] if decoding.reply_end else [])]


def _ending(choice: Mapping[str, Any], decoding: Decoding, *, cut: bool) -> str:
    """Why a text ended: `stop`, `end` or `length`; `stop` if the server does not distinguish it from `end`."""
    if cut or isinstance(choice.get("stop_reason"), str):
        return "stop"
    if choice["finish_reason"] == "length":
        return "length"
    return "end" if "stop_reason" in choice or not _stops(decoding) else "stop"


def connect(url: str, tokenizer: Any, model_config: ModelConfig, load_config: LoadConfig) -> ServedLM:
    """The model at a completions endpoint; the API key is read from the environment.

    Args:
        url: the URL of the API, such as `http://localhost:8000/v1`.
        tokenizer: the tokenizer of the served model.
        model_config: `served_name`, `bos` and `max_length` are used.
        load_config: `concurrency`, `timeout` and `retries` are used.

    Raises:
        ModelError: the endpoint cannot be reached, or does not support what is needed; the message says what.
        UnknownName: the endpoint has no model of this name.
    """
    endpoint = endpoint_at(url, load_config)
    name, reported_window = named_model(endpoint, model_config.served_name)
    return ServedLM(endpoint, tokenizer, name, reported_window, model_config.bos, model_config.max_length)


def endpoint_at(url: str, load_config: LoadConfig) -> Endpoint:
    """The endpoint at a URL, with the API key from the environment.

    Raises:
        ModelError: it is not a valid URL, or contains a secret.
    """
    key = next((value for name in KEYS if (value := os.environ.get(name))), None)
    return Endpoint(checked_url(url), key, load_config.concurrency, load_config.timeout, load_config.retries)


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        ModelError: it is not a valid URL, or it contains a password or a query, which would be stored in run folders.
    """
    import httpx2

    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ModelError(f"--model {url!r} is not a valid URL: {error}") from error
    if parts.userinfo or parts.query or parts.fragment:
        raise ModelError(
            "the URL of an endpoint is stored in the run folder, so it must not contain a user, password or query: "
            f"put the API key into the environment variable {KEYS[0]}"
        )
    if not parts.host:
        raise ModelError(f"--model {url!r} names no host")
    return url.rstrip("/")


def named_model(endpoint: Endpoint, wanted: str | None) -> tuple[str, int | None]:
    """The name of the model to use, and its context length if the endpoint reports it.

    Args:
        endpoint: the endpoint.
        wanted: the requested name; by default, the first model that the endpoint lists is used.

    Raises:
        UnknownName: the endpoint has no model of this name.
        ModelError: the endpoint lists no models.
    """
    try:
        listed = endpoint.get("/models", retries=min(endpoint.retries, 1))
    except Refusal as error:
        if wanted is None or error.status not in (404, 405, 501):
            raise
        return wanted, None
    data = listed.get("data") if isinstance(listed, dict) else None
    entries = [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
    models = {each["id"]: each for each in entries if isinstance(each.get("id"), str)}
    if not models:
        raise ModelError(f"{endpoint.url}/models lists no models")
    name = next(iter(models)) if wanted is None else wanted
    if name not in models:
        raise UnknownName(f"model of {endpoint.url}", name, models)
    return name, _reported_window(models[name])


def _reported_window(entry: Mapping[str, Any]) -> int | None:
    """The context length in the entry of a model; its name differs between servers."""
    meta = entry.get("meta")
    sizes = [
        *(entry.get(name) for name in ("max_model_len", "context_length", "max_context_length")),
        *((meta.get(name) for name in ("n_ctx", "n_ctx_train")) if isinstance(meta, dict) else ()),
    ]
    return next((size for size in sizes if isinstance(size, int) and SPARE < size < UNKNOWN_LENGTH), None)


def _window(reported: int | None, tokenizer: Any, requested: int | None) -> int:
    if reported is None and tokenizer.model_max_length < UNKNOWN_LENGTH:
        reported = int(tokenizer.model_max_length)
    if requested is None and reported is None:
        raise ModelError("neither the endpoint nor the tokenizer gives the context length; pass --max-length")
    if requested is not None and reported is not None and requested > reported - SPARE:
        raise ModelError(
            f"a context length of {requested} was requested, but that of the endpoint is {reported}, of which {SPARE} "
            "are needed for the last token and a generated one"
        )
    if requested is not None:
        return requested
    return reported - SPARE if reported is not None else 0
