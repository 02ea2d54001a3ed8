"""What an endpoint understands, found out by asking it about a short text before anything is measured.

Log-probabilities of a prompt can be shifted by a token, and still look like log-probabilities. So they are compared
with what the endpoint does when it writes: after the same tokens, the most likely token has the same log-probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.served.dialect import (
    Dialect,
    Lacking,
    Place,
    Wording,
    choice_of,
    logprobs_of,
    prompt_tokens,
    told_logprob,
    written_tokens,
)
from icl_eval.models.served.endpoint import Body, Endpoint, Refusal
from icl_eval.models.served.next_token import TOP, NextToken

COMPLETIONS = "/completions"
PROBE = "Nine purple spoons sang to the lamp."  # no model expects every word of it
CUTS = (1, 2, 3)  # tokens before its end at which writing is compared
ALIKE = 0.25  # nats: above what 16-bit arithmetic does, below what another place does
ELSEWISE = (400, 422, 500, 501)  # what servers answer to a body they do not understand
LATE = "; llama-cpp-python does so where no BOS token begins it: see --bos yes"
UNCLEAR = (500, 501)  # what a server answers that does not understand a body, or that is broken


class ServerDown(Refusal):
    """A server does not answer the simplest request."""


class Way(NamedTuple):
    """What to try: see `Dialect`."""

    echo: bool
    as_text: bool
    plain: bool


WAYS = (
    Way(echo=False, as_text=False, plain=True),
    Way(echo=True, as_text=False, plain=True),
    Way(echo=True, as_text=True, plain=True),
    Way(echo=True, as_text=False, plain=False),
    Way(echo=True, as_text=True, plain=False),
)


class Understood(NamedTuple):
    """How a server can be asked.

    Attributes:
        dialect: for the log-probabilities of prompts, and to generate.
        next_token: for the log-probabilities of next tokens, if it gives them.
    """

    dialect: Dialect
    next_token: NextToken | None


def understood_by(endpoint: Endpoint, model: str, tokenizer: Any, start: Sequence[int]) -> Understood:
    """The first way to ask that an endpoint understands, checked.

    Args:
        endpoint: the server.
        model: name there.
        tokenizer: the served model's.
        start: tokens that every text begins with.

    Raises:
        ModelError: it understands none, its tokens are not the tokenizer's, or its log-probabilities are not in place.
    """
    words = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    tokens = (*start, *words)
    problems: list[ModelError] = []
    for way in WAYS:
        dialect = Dialect(model, way.echo, Wording(tokenizer) if way.as_text else None, way.plain)
        try:
            if way.as_text:
                dialect = replace(dialect, wording=_wording(endpoint, dialect, tokenizer, words, start))
            dialect, places = _tried(endpoint, dialect, tokens, begun=bool(start))
        except Refusal as error:
            if error.status not in ELSEWISE or isinstance(error, ServerDown):
                raise
            problems.append(error)
        except Lacking as error:
            problems.append(error)
        else:
            _check_places(endpoint, dialect, tokenizer, tokens, places)
            return Understood(dialect, _next_token(endpoint, dialect, tokenizer, tokens, places))
    said = [problem for problem in problems if isinstance(problem, Lacking)] or problems
    raise ModelError(
        f"{endpoint.url} gives no log-probabilities of a prompt: {'; '.join(dict.fromkeys(map(str, said)))}"
    )


def _asked(endpoint: Endpoint, body: Body) -> Any:
    """The answer to a body that the server may not understand.

    Where that is unclear, the simplest request shows whether the server works; it alone is repeated, so that a broken
    server is given up after as many retries as any other.
    """
    try:
        return endpoint.post(COMPLETIONS, body, UNCLEAR)
    except Refusal as error:
        if error.status not in UNCLEAR:
            raise
    simplest = {"model": body["model"], "prompt": PROBE, "max_tokens": 1}
    try:
        endpoint.post(COMPLETIONS, simplest)
    except Refusal as error:
        if error.status not in (400, 422):
            raise ServerDown(str(error), error.status) from error
    return endpoint.post(COMPLETIONS, body, UNCLEAR)


def _wording(endpoint: Endpoint, dialect: Dialect, tokenizer: Any, words: list[int], start: Sequence[int]) -> Wording:
    """How to put tokens to a server that takes text, which may put a token before it itself."""
    read = prompt_tokens(_asked(endpoint, dialect.scoring(words)))
    if read is None:
        raise Lacking("the server does not say in `usage` how many tokens it read, and takes only text")
    added = read - len(words)
    if added not in (0, 1):
        raise ModelError(
            f"{endpoint.url} reads {read} tokens where the tokenizer makes {len(words)}: it is that of another model"
        )
    if added and not start:
        raise ModelError(
            f"{endpoint.url} puts a token before every text; with --bos yes the texts here begin with it too"
        )
    return Wording(tokenizer, adds_start=bool(added))


def _tried(endpoint: Endpoint, dialect: Dialect, tokens: Sequence[int], *, begun: bool) -> tuple[Dialect, list[Place]]:
    """The dialect, once it is known what it hides, and the places of the probe that it shows."""
    answer = _asked(endpoint, dialect.scoring(tokens))
    if dialect.echo:
        choice = choice_of(answer)
        own = logprobs_of(choice).get("token_logprobs")
        shown = len(own) - written_tokens(answer, choice) if isinstance(own, list) else len(tokens)
        if shown == len(tokens) - 1 and prompt_tokens(answer) == len(tokens):
            if not begun:
                raise ModelError(f"{endpoint.url} shows {shown} tokens of a prompt of {len(tokens)}{LATE}")
            dialect = replace(dialect, hidden=1)
    places = dialect.places(answer, tokens, 1 + dialect.hidden)
    if all(place.logprob >= place.best for place in places):
        raise Lacking("the server names no token but a prompt's own as the most likely one")
    return dialect, places


def _check_places(
    endpoint: Endpoint, dialect: Dialect, tokenizer: Any, tokens: Sequence[int], places: Sequence[Place]
) -> None:
    """Compare with what is written after the same tokens: its log-probability, and what it has as part of a prompt.

    Raises:
        ModelError: the log-probabilities differ, or nothing is written.
    """
    compared = 0
    for cut in CUTS:
        try:
            body = dialect.writing(tokens[:-cut], max_tokens=1, temperature=0.0)
        except ModelError:
            continue  # no text has just these tokens
        choice = choice_of(endpoint.post(COMPLETIONS, body))
        if not (values := logprobs_of(choice).get("token_logprobs")):
            continue  # the text ends here
        compared += 1
        wrote, shown = told_logprob(values[0]), [places[-cut].best]
        ids = tokenizer(str(choice.get("text")), add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            shown += _shown_last(endpoint, dialect, [*tokens[:-cut], *ids])
        far = max(shown, key=lambda value: abs(value - wrote))
        if abs(far - wrote) > ALIKE:
            raise ModelError(
                f"{endpoint.url} gives {far:.2f} nats for the most likely token at a place of a prompt, but writes it "
                f"there with {wrote:.2f}: it shifts the log-probabilities of a prompt{'' if dialect.hidden else LATE}"
            )
    if not compared:
        raise ModelError(f"{endpoint.url} writes nothing after a short text, so what it shows cannot be checked")


def _shown_last(endpoint: Endpoint, dialect: Dialect, tokens: Sequence[int]) -> list[float]:
    """The log-probability of a prompt's last token, if there is a text of just these tokens."""
    try:
        body = dialect.scoring(tokens)
    except ModelError:
        return []
    return [place.logprob for place in dialect.places(endpoint.post(COMPLETIONS, body), tokens, len(tokens) - 1)]


def _next_token(
    endpoint: Endpoint, dialect: Dialect, tokenizer: Any, tokens: Sequence[int], places: Sequence[Place]
) -> NextToken | None:
    """How the server gives log-probabilities of next tokens that equal those of a prompt's, if it does."""
    for chosen in (True, False):
        form = NextToken(dialect, tokenizer, chosen)
        try:
            if _gives_next(endpoint, form, tokens, places):
                return form
        except Refusal as error:
            if error.status not in ELSEWISE or isinstance(error, ServerDown):
                raise
        except ModelError:
            continue
    return None


def _gives_next(endpoint: Endpoint, form: NextToken, tokens: Sequence[int], places: Sequence[Place]) -> bool:
    """Whether the probe's tokens, and what is generated in their places, have the log-probabilities of the prompt."""
    compared = 0
    for cut in CUTS:
        context, token, place = tokens[:-cut], tokens[-cut], places[-cut]
        body = form.body(context, [token])
        if body is None:
            continue
        answer = _asked(endpoint, body)
        generated = form.tokenizer(str(choice_of(answer).get("text")), add_special_tokens=False)["input_ids"]
        expected = {generated[0]: place.best} if len(generated) == 1 else {}
        expected[token] = place.logprob
        found = form.read(answer, context, list(expected))
        if token not in found if form.chosen else len(form.top(answer)) < TOP // 4:
            return False
        if any(abs(found[each].logprob - expected[each]) > ALIKE for each in found):
            return False
        compared += len(found)
    return compared > 0
