"""Detect the form of requests that an endpoint supports, with a short text, before any evaluation.

The log-probabilities of a prompt may be shifted by a token and still look plausible. So they are compared with those of
generated tokens: after the same tokens, the most likely token has the same log-probability.
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
from icl_eval.models.served.endpoint import Body, Endpoint, Refusal

COMPLETIONS = "/completions"
PROBE = "Nine purple spoons sang to the lamp."  # no model expects every word of it
CUTS = (1, 2, 3)  # tokens before its end at which generated tokens are compared
TOLERANCE = 0.25  # nats: above the noise of 16-bit arithmetic, below the difference of another position
UNSUPPORTED = (400, 422, 500, 501)  # what servers answer to a body they do not support
LATE = "; llama-cpp-python does so where no BOS token begins it: see --bos yes"
AMBIGUOUS = (500, 501)  # of a server that does not support a body, or that is broken


class ServerDown(Refusal):
    """A server does not answer the simplest request."""


class Probe(NamedTuple):
    """A form to try; see `CompletionsFormat`."""

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
    """The forms of requests that a server supports.

    Attributes:
        completions: for the log-probabilities of prompts, and to generate.
        next_token: for the log-probabilities of next tokens; None if it has none.
    """

    completions: CompletionsFormat
    next_token: NextToken | None


def detect_formats(endpoint: Endpoint, model: str, tokenizer: Any, start: Sequence[int]) -> Formats:
    """The first form of requests that an endpoint supports, checked.

    Args:
        endpoint: the server.
        model: name at the endpoint.
        tokenizer: the tokenizer of the served model.
        start: tokens that every text begins with.

    Raises:
        ModelError: it supports none, its tokens are not those of the tokenizer, or its log-probabilities are shifted.
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
            if error.status not in UNSUPPORTED or isinstance(error, ServerDown):
                raise
            problems.append(error)
        except MissingField as error:
            problems.append(error)
        else:
            _check_positions(endpoint, completions, tokenizer, tokens, logprobs)
            return Formats(completions, _next_token(endpoint, completions, tokenizer, tokens, logprobs))
    missing = [problem for problem in problems if isinstance(problem, MissingField)] or problems
    raise ModelError(
        f"{endpoint.url} gives no log-probabilities of a prompt: {'; '.join(dict.fromkeys(map(str, missing)))}"
    )


def _answer(endpoint: Endpoint, body: Body) -> Any:
    """The answer to a body that the server may not support.

    Where the status does not show it, the simplest request shows whether the server works. Only that one is retried, so
    that a broken server fails after the usual number of retries.
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
        if error.status not in (400, 422):
            raise ServerDown(str(error), error.status) from error
    return endpoint.post(COMPLETIONS, body, AMBIGUOUS)


def _text_prompt(
    endpoint: Endpoint, completions: CompletionsFormat, tokenizer: Any, words: list[int], start: Sequence[int]
) -> TextPrompt:
    """How to send tokens to a server that takes text and may itself put a token before it."""
    read = prompt_tokens(_answer(endpoint, completions.scoring(words)))
    if read is None:
        raise MissingField("the server does not report in `usage` how many tokens it read, and takes only text")
    added = read - len(words)
    if added not in (0, 1):
        raise ModelError(
            f"{endpoint.url} reads {read} tokens where the tokenizer has {len(words)}: "
            "--tokenizer belongs to another model"
        )
    if added and not start:
        raise ModelError(f"{endpoint.url} puts a token before every text; pass --bos yes to add it here, too")
    return TextPrompt(tokenizer, adds_start=bool(added))


def _try(
    endpoint: Endpoint, completions: CompletionsFormat, tokens: Sequence[int], *, has_start: bool
) -> tuple[CompletionsFormat, list[TokenLogprob]]:
    """The form with its number of hidden tokens, and the log-probabilities of the probe."""
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
        raise MissingField("the server returns no tokens but the prompt's own, so the most likely ones are unknown")
    return completions, logprobs


def _check_positions(
    endpoint: Endpoint,
    completions: CompletionsFormat,
    tokenizer: Any,
    tokens: Sequence[int],
    logprobs: Sequence[TokenLogprob],
) -> None:
    """Compare with tokens generated after the same tokens: their log-probabilities there and as part of a prompt.

    Raises:
        ModelError: the log-probabilities differ, or nothing is generated.
    """
    compared = 0
    for cut in CUTS:
        try:
            body = completions.generation(tokens[:-cut], max_tokens=1, temperature=0.0)
        except ModelError:
            continue  # no text has just these tokens
        choice = choice_of(endpoint.post(COMPLETIONS, body))
        if not (values := logprobs_of(choice).get("token_logprobs")):
            continue  # the text ends here
        compared += 1
        generated, scored = checked_logprob(values[0]), [logprobs[-cut].best]
        ids = tokenizer(str(choice.get("text")), add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            scored += _last_logprob(endpoint, completions, [*tokens[:-cut], *ids])
        far = max(scored, key=lambda value: abs(value - generated))
        if abs(far - generated) > TOLERANCE:
            raise ModelError(
                f"{endpoint.url} returns {far:.2f} nats for the most likely token at a position of a prompt, but "
                f"{generated:.2f} when it generates the token there: it shifts the log-probabilities of a prompt"
                f"{'' if completions.hidden else LATE}"
            )
    if not compared:
        raise ModelError(
            f"{endpoint.url} generates nothing after a short text, so its log-probabilities cannot be checked"
        )


def _last_logprob(endpoint: Endpoint, completions: CompletionsFormat, tokens: Sequence[int]) -> list[float]:
    """The log-probability of a prompt's last token, if there is a text of just these tokens."""
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
    """The form in which the server returns log-probabilities of next tokens that equal those of a prompt, if any."""
    for chosen in (True, False):
        form = NextToken(completions, tokenizer, chosen)
        try:
            if _next_token_works(endpoint, form, tokens, logprobs):
                return form
        except Refusal as error:
            if error.status not in UNSUPPORTED or isinstance(error, ServerDown):
                raise
        except ModelError:
            continue
    return None


def _next_token_works(
    endpoint: Endpoint, form: NextToken, tokens: Sequence[int], logprobs: Sequence[TokenLogprob]
) -> bool:
    """Whether the probe's tokens, and tokens generated in their place, have the log-probabilities of the prompt."""
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
