"""Detect the formats of requests that an endpoint supports, with a short text, before anything is evaluated.

The log-probabilities of a prompt may be shifted by one token and still look plausible. So they are compared with those
of generated tokens: after the same tokens, the most likely token has the same log-probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.served.completions_format import (
    TOP,
    CompletionsFormat,
    MissingField,
    NextToken,
    TextPrompt,
    TokenLogprob,
    checked_logprob,
    choice_of,
    generated_tokens,
    logprobs_of,
    prompt_tokens,
)
from icl_eval.models.served.endpoint import AMBIGUOUS, UNSUPPORTED, Body, Endpoint, Refusal

COMPLETIONS = "/completions"
PROBE = "Nine purple spoons sang to the lamp."  # no model expects every word of it
CUTS = (1, 2, 3)  # positions, in tokens before the end of the text, at which generated tokens are compared
TOLERANCE = 0.25  # nats: above the noise of 16-bit arithmetic, below the difference that a shift makes
LATE = "; llama-cpp-python does this if the prompt does not begin with a BOS token: see --bos yes"


class ServerDown(Refusal):
    """A server does not even answer the simplest request."""


class Probe(NamedTuple):
    """A format to try; see `CompletionsFormat`."""

    echo: bool
    as_text: bool
    plain: bool


PROBES = (
    Probe(echo=False, as_text=False, plain=True),
    Probe(echo=True, as_text=False, plain=True),
    Probe(echo=True, as_text=True, plain=True),
    Probe(echo=True, as_text=False, plain=False),
    Probe(echo=True, as_text=True, plain=False),
)


class Formats(NamedTuple):
    """The formats of requests that a server supports.

    Attributes:
        completions: the format for log-probabilities of prompts, and for generation.
        next_token: the format for log-probabilities of next tokens; None if the server does not support any.
    """

    completions: CompletionsFormat
    next_token: NextToken | None


def detect_formats(endpoint: Endpoint, model: str, tokenizer: Any, start: Sequence[int]) -> Formats:
    """The first format that an endpoint supports, after checking its log-probabilities; and one for next tokens.

    Args:
        endpoint: the endpoint.
        model: the name of the model at the endpoint.
        tokenizer: the tokenizer of the served model.
        start: special tokens before every text.

    Raises:
        ModelError: the endpoint supports no format, tokenizes differently, or returns shifted log-probabilities.
    """
    words = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    tokens = (*start, *words)
    problems: list[ModelError] = []
    for probe in PROBES:
        completions = CompletionsFormat(
            model, probe.echo, TextPrompt(tokenizer) if probe.as_text else None, probe.plain
        )
        try:
            if probe.as_text:
                completions = replace(
                    completions, text_prompt=_text_prompt(endpoint, completions, tokenizer, words, start)
                )
            completions, logprobs = _try(endpoint, completions, tokens, has_start=bool(start))
        except Refusal as error:
            if error.status not in (*UNSUPPORTED, *AMBIGUOUS) or isinstance(error, ServerDown):
                raise
            problems.append(error)
        except MissingField as error:
            problems.append(error)
        else:
            _check_positions(endpoint, completions, tokenizer, tokens, logprobs)
            return Formats(completions, _next_token(endpoint, completions, tokenizer, tokens, logprobs))
    missing = [problem for problem in problems if isinstance(problem, MissingField)] or problems
    raise ModelError(
        f"{endpoint.url} returns no log-probabilities of a prompt: {'; '.join(dict.fromkeys(map(str, missing)))}"
    )


def _answer(endpoint: Endpoint, body: Body) -> Any:
    """The answer to a body that the server may not support.

    If the status is ambiguous, the simplest request shows whether the server works at all. Only this one is retried, so
    that a server which does not work fails after the usual number of retries.
    """
    try:
        return endpoint.post(COMPLETIONS, body, AMBIGUOUS)
    except Refusal as error:
        if error.status not in AMBIGUOUS:
            raise
    simplest = {"model": body["model"], "prompt": PROBE, "max_tokens": 1}
    try:
        endpoint.post(COMPLETIONS, simplest)
    except Refusal as error:
        if error.status not in UNSUPPORTED:
            raise ServerDown(str(error), error.status) from error
    return endpoint.post(COMPLETIONS, body, AMBIGUOUS)


def _text_prompt(
    endpoint: Endpoint, completions: CompletionsFormat, tokenizer: Any, words: list[int], start: Sequence[int]
) -> TextPrompt:
    """How to send tokens to a server that takes text, and that may add a start token."""
    read = prompt_tokens(_answer(endpoint, completions.scoring(words)))
    if read is None:
        raise MissingField("the server takes only text, and does not report in `usage` how many tokens it read")
    added = read - len(words)
    if added not in (0, 1):
        raise ModelError(
            f"{endpoint.url} reads {read} tokens in a text that has {len(words)} by the tokenizer: "
            "--tokenizer belongs to another model"
        )
    if added and not start:
        raise ModelError(f"{endpoint.url} adds a token before every text; pass --bos yes to add it here, too")
    return TextPrompt(tokenizer, adds_start=bool(added))


def _try(
    endpoint: Endpoint, completions: CompletionsFormat, tokens: Sequence[int], *, has_start: bool
) -> tuple[CompletionsFormat, list[TokenLogprob]]:
    """The format with its number of hidden tokens, and the log-probabilities of the test text."""
    answer = _answer(endpoint, completions.scoring(tokens))
    if completions.echo:
        choice = choice_of(answer)
        values = logprobs_of(choice).get("token_logprobs")
        count = len(values) - generated_tokens(answer, choice) if isinstance(values, list) else len(tokens)
        if count == len(tokens) - 1 and prompt_tokens(answer) == len(tokens):
            if not has_start:
                raise ModelError(f"{endpoint.url} returns {count} tokens of a prompt of {len(tokens)}{LATE}")
            completions = replace(completions, hidden=1)
    logprobs = completions.prompt_logprobs(answer, tokens, 1 + completions.hidden)
    if all(each.logprob >= each.best for each in logprobs):
        raise MissingField(
            "the server returns log-probabilities of the prompt's tokens, but not of the most likely ones"
        )
    return completions, logprobs


def _check_positions(
    endpoint: Endpoint,
    completions: CompletionsFormat,
    tokenizer: Any,
    tokens: Sequence[int],
    logprobs: Sequence[TokenLogprob],
) -> None:
    """Check that tokens have the same log-probability when they are generated and as part of a prompt.

    Raises:
        ModelError: the log-probabilities differ, or the server generates nothing.
    """
    compared = 0
    for cut in CUTS:
        try:
            body = completions.generation(tokens[:-cut], max_tokens=1, temperature=0.0)
        except ModelError:
            continue  # no text has exactly these tokens
        choice = choice_of(endpoint.post(COMPLETIONS, body))
        if not (values := logprobs_of(choice).get("token_logprobs")):
            continue  # the server generated an end token
        compared += 1
        generated, scored = checked_logprob(values[0]), [logprobs[-cut].best]
        ids = tokenizer(str(choice.get("text")), add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            scored += _last_logprob(endpoint, completions, [*tokens[:-cut], *ids])
        far = max(scored, key=lambda value: abs(value - generated))
        if abs(far - generated) > TOLERANCE:
            raise ModelError(
                f"{endpoint.url} returns {far:.2f} nats for the most likely token at a position of a prompt, but "
                f"{generated:.2f} when it generates this token: it shifts the log-probabilities of a prompt"
                f"{'' if completions.hidden else LATE}"
            )
    if not compared:
        raise ModelError(
            f"{endpoint.url} generates nothing after a short text, so its log-probabilities cannot be checked"
        )


def _last_logprob(endpoint: Endpoint, completions: CompletionsFormat, tokens: Sequence[int]) -> list[float]:
    """The log-probability of a prompt's last token, as a list; empty if no text has exactly these tokens."""
    try:
        body = completions.scoring(tokens)
    except ModelError:
        return []
    return [
        each.logprob for each in completions.prompt_logprobs(endpoint.post(COMPLETIONS, body), tokens, len(tokens) - 1)
    ]


def _next_token(
    endpoint: Endpoint,
    completions: CompletionsFormat,
    tokenizer: Any,
    tokens: Sequence[int],
    logprobs: Sequence[TokenLogprob],
) -> NextToken | None:
    """The first format in which the server returns log-probabilities of next tokens that equal those of a prompt."""
    for chosen in (True, False):
        form = NextToken(completions, tokenizer, chosen)
        try:
            if _next_token_works(endpoint, form, tokens, logprobs):
                return form
        except Refusal as error:
            if error.status not in (*UNSUPPORTED, *AMBIGUOUS) or isinstance(error, ServerDown):
                raise
        except ModelError:
            continue
    return None


def _next_token_works(
    endpoint: Endpoint, form: NextToken, tokens: Sequence[int], logprobs: Sequence[TokenLogprob]
) -> bool:
    """Whether tokens of the test text, and the most likely ones, have the same log-probabilities as in a prompt."""
    compared = 0
    for cut in CUTS:
        context, token, known = tokens[:-cut], tokens[-cut], logprobs[-cut]
        body = form.body(context, [token])
        if body is None:
            continue
        answer = _answer(endpoint, body)
        generated = form.tokenizer(str(choice_of(answer).get("text")), add_special_tokens=False)["input_ids"]
        expected = {generated[0]: known.best} if len(generated) == 1 else {}
        expected[token] = known.logprob
        found = form.read(answer, context, list(expected))
        if token not in found if form.chosen else len(form.top(answer)) < TOP // 4:
            return False
        if any(abs(found[each].logprob - expected[each]) > TOLERANCE for each in found):
            return False
        compared += len(found)
    return compared > 0
