"""Options of one token: the log-probabilities of the next token after a context, where a server gives them.

The log-probabilities of a prompt are expensive: servers recompute the whole prompt for each option, since they have
no cache of prefixes for them, and some sort the vocabulary at every position. One generated token costs only the new
tokens of the context, once for all options.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.protocol import ScoreRequest
from icl_eval.models.served.completions_format import (
    CompletionsFormat,
    MissingField,
    TokenLogprob,
    check_prompt_tokens,
    checked_logprob,
    choice_of,
    logprobs_of,
)
from icl_eval.models.served.endpoint import Body

TOP = 100  # most likely tokens that are requested where a server cannot return chosen ones
MAX_CHOSEN = (
    20  # tokens of one request: vLLM gives no more log-probabilities unless it is started with `--max-logprobs`
)


class Query(NamedTuple):
    """One request to a server.

    Attributes:
        indices: of the requests that it answers, which have one context.
        context: tokens.
        body: what is sent.
    """

    indices: list[int]
    context: Sequence[int]
    body: Body


@dataclass(frozen=True)
class NextToken:
    """Requests one generated token with log-probabilities.

    Args:
        completions: the form of its requests.
        tokenizer: the served model's.
        chosen: whether the server gives the log-probabilities of chosen tokens, by their ids; otherwise it gives those
            of the `TOP` most likely ones, by their texts.
    """

    completions: CompletionsFormat
    tokenizer: Any
    chosen: bool

    @property
    def name(self) -> str:
        """Part of the signature and of the fingerprint."""
        return "next-ids" if self.chosen else "next-top"

    def queries(self, requests: Sequence[ScoreRequest]) -> list[Query]:
        """What to send, in the order of the contexts, for requests with one scored token.

        Requests with more, and those whose context the server cannot be sent, are in none.
        """
        contexts: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            if 0 < request.boundary == len(request.tokens) - 1:
                contexts[request.tokens[:-1].tobytes()].append(index)
        found: list[Query] = []
        for indices in sorted(contexts.values(), key=lambda indices: requests[indices[0]].tokens):
            size = MAX_CHOSEN if self.chosen else len(indices)
            for first in range(0, len(indices), size):
                some = indices[first : first + size]
                context = requests[some[0]].tokens[:-1]
                body = self.body(context, [requests[index].tokens[-1] for index in some])
                if body is not None:
                    found.append(Query(some, context, body))
        return found

    def body(self, context: Sequence[int], tokens: Sequence[int]) -> Body | None:
        """A request for the log-probabilities of tokens after a context; none if no text has the context's tokens."""
        try:
            body = self.completions.generation(context, max_tokens=1, temperature=0.0)
        except ModelError:
            return None
        if not self.chosen:
            return {**body, "logprobs": TOP}
        return {**body, "logprob_token_ids": list(tokens), "return_tokens_as_token_ids": True}

    def read(self, answer: Any, context: Sequence[int], tokens: Sequence[int]) -> dict[int, TokenLogprob]:
        """The log-probabilities of those tokens that an answer has.

        Raises:
            ModelError: the server read another context, or an answer lacks what it should have.
        """
        check_prompt_tokens(answer, len(context))
        top = self.top(answer)
        if not top:
            return {}  # the text ends here
        names = {token: self._name(token) for token in tokens}
        found = {token: checked_logprob(top[name]) for token, name in names.items() if name in top}
        best = max(map(checked_logprob, top.values()))
        return {token: TokenLogprob(logprob, best) for token, logprob in found.items()}

    def top(self, answer: Any) -> dict[str, Any]:
        """The log-probabilities of the generated token and others; empty if nothing was generated.

        Raises:
            MissingField: the answer has none.
        """
        found = logprobs_of(choice_of(answer)).get("top_logprobs")
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise MissingField("the server's answer has no `top_logprobs`")
        return found[0] if found else {}

    def _name(self, token: int) -> str | None:
        if self.chosen:
            return f"token_id:{token}"
        text = self._text(token)
        return text if self._texts[text] == 1 else None

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    @cached_property
    def _texts(self) -> Counter[str]:
        """How many tokens of the vocabulary have each text: only a unique one says which token is meant."""
        return Counter(map(self._text, range(len(self.tokenizer))))
