"""What an endpoint understands, found out by asking it about a short text before anything is measured.

Log-probabilities of a prompt can be shifted by a token, and still look like log-probabilities. So they are compared
with what the endpoint does when it writes: after the same tokens, the most likely token has the same log-probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.dialect import (
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
from icl_eval.models.endpoint import Endpoint, Refusal

COMPLETIONS = "/completions"
PROBE = "Nine purple spoons sang to the lamp."  # no model expects every word of it
CUTS = (1, 2, 3)  # tokens before its end at which writing is compared
ALIKE = 0.25  # nats: above what 16-bit arithmetic does, below what another place does
ELSEWISE = (400, 422, 500, 501)  # what servers answer to a body they do not understand
RETRIES = 2  # of a question that may not be understood


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


def dialect_of(endpoint: Endpoint, model: str, tokenizer: Any, start: Sequence[int]) -> Dialect:
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
            dialect, places = _tried(endpoint, dialect, tokens)
        except Refusal as error:
            if error.status not in ELSEWISE:
                raise
            problems.append(error)
        except Lacking as error:
            problems.append(error)
        else:
            _check_places(endpoint, dialect, tokens, places)
            return dialect
    said = [problem for problem in problems if isinstance(problem, Lacking)] or problems
    raise ModelError(
        f"{endpoint.url} gives no log-probabilities of a prompt: {'; '.join(dict.fromkeys(map(str, said)))}"
    )


def _wording(endpoint: Endpoint, dialect: Dialect, tokenizer: Any, words: list[int], start: Sequence[int]) -> Wording:
    """How to put tokens to a server that takes text, which may put a token before it itself."""
    read = prompt_tokens(endpoint.post(COMPLETIONS, dialect.scoring(words), RETRIES))
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


def _tried(endpoint: Endpoint, dialect: Dialect, tokens: Sequence[int]) -> tuple[Dialect, list[Place]]:
    """The dialect, once it is known what it hides, and the places of the probe that it shows."""
    answer = endpoint.post(COMPLETIONS, dialect.scoring(tokens), RETRIES)
    if dialect.echo:
        choice = choice_of(answer)
        own = logprobs_of(choice).get("token_logprobs")
        shown = len(own) - written_tokens(answer, choice) if isinstance(own, list) else len(tokens)
        if shown == len(tokens) - 1 and prompt_tokens(answer) == len(tokens):
            dialect = replace(dialect, hidden=1)
    places = dialect.places(answer, tokens, 1 + dialect.hidden)
    if all(place.logprob >= place.best for place in places):
        raise Lacking("the server names no token but a prompt's own as the most likely one")
    return dialect, places


def _check_places(endpoint: Endpoint, dialect: Dialect, tokens: Sequence[int], places: Sequence[Place]) -> None:
    """Compare with what is written after the same tokens.

    Raises:
        ModelError: the log-probabilities differ, or nothing is written.
    """
    compared = 0
    for cut in CUTS:
        try:
            body = dialect.writing(tokens[:-cut], max_tokens=1, temperature=0.0)
        except ModelError:
            continue  # no text has just these tokens
        written = logprobs_of(choice_of(endpoint.post(COMPLETIONS, body))).get("token_logprobs")
        if not written:
            continue  # the text ends here
        compared += 1
        shown, wrote = places[-cut].best, told_logprob(written[0])
        if abs(wrote - shown) > ALIKE:
            hint = "" if dialect.hidden else "; llama-cpp-python does so where no BOS token begins it: see --bos yes"
            raise ModelError(
                f"{endpoint.url} gives {shown:.2f} nats for the most likely token at a place of a prompt, but writes "
                f"it there with {wrote:.2f}: it shifts the log-probabilities of a prompt{hint}"
            )
    if not compared:
        raise ModelError(f"{endpoint.url} writes nothing after a short text, so what it shows cannot be checked")
