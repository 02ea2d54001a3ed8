"""Generate texts at an endpoint: a request for every sample, and what its answer says."""

from __future__ import annotations

import hashlib
import reprlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.decoding import Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.served.completions_format import (
    MissingField,
    checked_logprob,
    choice_of,
    completion_tokens,
    logprobs_of,
)
from icl_eval.models.served.endpoint import Body, Endpoint


class ServedText(NamedTuple):
    """One generated text, as in `GenerateAnswer`."""

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
    """Generate texts in the order of their prompts; call `sink` with each answer as it comes.

    Args:
        endpoint: the server.
        path: where requests are sent.
        requests: prompts and their decoding.
        body: makes the body of a request, with options of the decoding.
        read: reads an answer.
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
        ModelError: the answer lacks a field, or the text ended for another reason than a stop or its length.
    """
    choice = choice_of(answer)
    text, values = choice.get("text"), logprobs_of(choice).get("token_logprobs")
    if not isinstance(text, str) or not isinstance(values, list):
        raise MissingField("the server's answer has no `text` or no `token_logprobs`")
    return ended_text(answer, text, decoding, values)


def ended_text(answer: Any, text: str, decoding: Decoding, logprobs: Sequence[Any]) -> ServedText:
    """A generated text up to a stop, and why it ended.

    Args:
        answer: of the server.
        text: in it, maybe with stop strings.
        decoding: how it was generated.
        logprobs: of its tokens, in nats.

    Raises:
        ModelError: it ended for another reason than a stop or its length, or a log-probability is none.
    """
    choice, end, counted = choice_of(answer), decoding.end_of(text), completion_tokens(answer)
    if (why := choice.get("finish_reason")) not in ("stop", "length"):
        raise ModelError(f"the server ended a text with the unknown `finish_reason` {reprlib.repr(why)}")
    tokens = len(logprobs) if counted is None else counted
    score = sum(map(checked_logprob, logprobs))
    return ServedText(text[:end], tokens, _ending(choice, decoding, cut=end is not None), score)


def _sampling_options(request: GenerateRequest, sample: int) -> dict[str, Any]:
    """The options of one sample; its seed depends on the decoding, the prompt and its number only."""
    decoding = request.decoding
    options: dict[str, Any] = {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature}
    if stops := _stops(decoding):
        options["stop"] = stops
    if decoding.temperature:
        digest = hashlib.blake2b(f"{decoding.seed}:{sample}:".encode() + request.tokens.tobytes(), digest_size=4)
        options |= {"top_p": decoding.top_p, "seed": int.from_bytes(digest.digest(), "big") >> 1}
    return options


def _stops(decoding: Decoding) -> list[str]:
    """The stop strings for a server, which would also look for them in reasoning."""
    answer = list(decoding.stop) if decoding.reasoning_end is None else []
    return [*answer, *([decoding.reply_end] if decoding.reply_end else [])]


def _ending(choice: Mapping[str, Any], decoding: Decoding, *, cut: bool) -> str:
    """`stop`, `end` or `length`; if a server does not distinguish stop strings from end tokens, its word counts."""
    if cut or isinstance(choice.get("stop_reason"), str):
        return "stop"
    if choice["finish_reason"] == "length":
        return "length"
    return "end" if "stop_reason" in choice or not _stops(decoding) else "stop"
