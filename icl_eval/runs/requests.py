"""Encoded queries: the requests, as token ids, for an example in a cell of the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_eval.config import Overflow
from icl_eval.demos import depends_on_seed, positions, shown_label, shown_options
from icl_eval.errors import IclEvalError, PromptError, WindowError
from icl_eval.metrics import Kind
from icl_eval.models import (
    Decoding,
    GenerateRequest,
    LanguageModel,
    Request,
    ScoreRequest,
)
from icl_eval.prompts import (
    FittedPrompt,
    Prompt,
    PromptText,
    Scored,
    assemble,
    common_prefix,
    encode_apart,
    fit,
    split_tokens,
    with_start,
)
from icl_eval.results.records import Cell
from icl_eval.runs.cells import PreparedTask, decoding
from icl_eval.runs.model import ChatForm
from icl_eval.tasks import Decode, Example

Split = Callable[[list[tuple[str, str]]], list[Scored]]
LONGEST_ID = 60  # characters; longer ids are shortened in messages
MAX_UNCONDITIONAL = 10_000  # cached requests without the prompt, which the cells of an example share


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """An example in a cell, rendered, fitted into the context length and encoded.

    Token ids are stored only in the requests, which pack them: many queries are in memory at the same time.
    """

    cell: Cell
    example: Example
    kind: Kind
    demonstrations: tuple[str, ...]  # ids of the demonstrations that fit, in the order of the prompt
    text: PromptText
    shots: int  # number of demonstrations that fit
    truncated: int  # tokens cut from the start of the query
    input_length: int  # tokens of the longest request that have to fit the context length
    reads_by_seed: bool  # whether the texts of demonstrations or options depend on the seed
    requests: tuple[Request, ...]
    """For a choice: each option after the prompt, after the answer context, after the domain premise if `has_domain`,
    and after the prompt with each content-free input."""
    has_domain: bool = False
    spans: tuple[tuple[int, int], ...] = ()  # tokens of each demonstration's answer, in the last request

    @property
    def conditional(self) -> tuple[ScoreRequest, ...]:
        """For a choice: the requests of each option after the prompt."""
        return tuple(each for each in self.requests[: len(self.text.answers)] if isinstance(each, ScoreRequest))

    @property
    def of_answers(self) -> tuple[Request, ...]:
        """The requests for the answer to the query, without the request for the answers of demonstrations."""
        return self.requests[:-1] if self.spans else self.requests

    @property
    def tokens(self) -> int:
        """Number of tokens of all requests."""
        return sum(len(request.tokens) for request in self.requests)


class RequestBuilder:
    """Encodes the examples of one task for one model, and caches the texts and requests that many queries share.

    Attributes:
        control_names: names of control tokens that records contain and the model reads as control tokens, not as text.
    """

    def __init__(
        self, prepared: PreparedTask, model: LanguageModel, overflow: Overflow, chat: ChatForm | None = None
    ) -> None:
        self.prepared, self.model, self.overflow, self._form = prepared, model, overflow, chat
        self._apart, self._start = model.is_encoder_decoder, model.start if chat is None else chat.start
        self._controls, self.control_names = model.controls, set[str]()
        self._demonstration_texts: dict[tuple[str, tuple[str, ...], int], tuple[str, str]] = {}
        self._lengths: dict[str, int] = {}
        self._unconditional: dict[tuple[str, str], ScoreRequest] = {}
        self._last_content_free: dict[tuple[str, int], tuple[list[tuple[str, str]], list[ScoreRequest]]] = {}
        premise = prepared.domain_premise
        self._premise = domain_premise(prepared.task.name, premise) if premise else None

    def queries(self) -> Iterator[EncodedQuery]:
        """The queries of every example in every cell."""
        return (query for seed in self.prepared.record.seeds for queries in self.of_seed(seed) for query in queries)

    def of_seed(self, seed: int, examples: Sequence[Example] | None = None) -> Iterator[list[EncodedQuery]]:
        """For each example (by default all), its queries in all cells of a seed."""
        cells = list(self.prepared.cells(seed))
        for example in (self.prepared.examples if examples is None else examples) if cells else ():
            draws = self.prepared.draws(example, [cell.shots for cell in cells], seed)
            yield [self.build(cell, example, drawn) for cell, drawn in zip(cells, draws, strict=True)]

    def build(self, cell: Cell, example: Example, drawn: list[Example]) -> EncodedQuery:
        """Render, fit and encode one query.

        Args:
            cell: prompt, number of shots and seed.
            example: the query.
            drawn: its demonstrations, in the order in which they were drawn.

        Raises:
            WindowError: the query does not fit the context length.
            IclEvalError: the template cannot be rendered for this example.
        """
        definition, model = self.prepared.task.definition, self.model
        options = example.options[:1]  # references are one answer
        if definition.answer == "choice":
            options = shown_options(definition.protocol.labels, example.options, cell.task, cell.seed)
        fields, options = self._controls.mark((example.fields, options), self.control_names)
        try:
            text = self._text(fields, options, drawn, cell.seed)
            if definition.decode is not None:
                fitted = self._fit(text, self._room_for_prompt(definition.decode.max_tokens), self._contexts)
                requests: tuple[Request, ...] = (
                    GenerateRequest.of(fitted.options[0].context, self._decoding(definition.decode, cell.seed)),
                )
            elif definition.answer == "likelihood":
                fitted = self._fit_whole(text, cell.shots)
                scored = self._likelihood(fitted.options[0], definition.score.stride)
                requests = tuple(replace(each, moments=self.prepared.moments) for each in scored)
            else:
                fitted = self._fit(text, model.window, self._split)
                context = self._answer_context(fields)
                conditional = [ScoreRequest.of(each.context, each.continuation) for each in fitted.options]
                unconditional = [self._without_context(context, answer) for answer in text.answers]
                requests = (*conditional, *unconditional, *self._for_calibration(example, options, text, fitted.shots))
            reads = self.prepared.reads_demonstrations(cell) and fitted.shots
            of_demonstrations = self._demonstration_answers(text, fitted.shots) if reads else None
        except WindowError as error:
            raise WindowError(f"{cell.task}, example {_quoted_id(example)}: {error.message}") from error
        except IclEvalError as error:
            message = f"{error.message} ({cell.task}, example {_quoted_id(example)})"
            raise type(error)(message, error.path, error.line) from error
        return EncodedQuery(
            cell=cell,
            example=example,
            kind=definition.answer,
            demonstrations=tuple(drawn[position].id for position in text.order or () if position < fitted.shots),
            text=_unmarked(text, self._controls.unmark),
            shots=fitted.shots,
            truncated=fitted.truncated,
            input_length=max(each.input_length for each in fitted.options),
            reads_by_seed=depends_on_seed(definition.protocol.labels),
            requests=(*requests, of_demonstrations[0]) if of_demonstrations else requests,
            spans=of_demonstrations[1] if of_demonstrations else (),
            has_domain=self._premise is not None,
        )

    def _demonstration_answers(self, text: PromptText, shots: int) -> tuple[ScoreRequest, tuple[tuple[int, int], ...]]:
        """One request that scores all demonstrations, and the range of scored tokens of each demonstration's answer.

        A token that spans the beginning of an answer belongs to the answer. A token that spans its end does not, unless
        the answer has no other token.
        """
        solved = list(text.solved(shots))
        befores, ends = [before for before, _ in solved], [before + answer for before, answer in solved]
        encoded = [with_start(self._start, ids) or [self.model.fallback] for ids in self.model.encode(befores + ends)]
        whole = encoded[-1]
        begins = [max(common_prefix(ids, whole), 1) for ids in encoded[:shots]]
        spans = [
            (begin - begins[0], max(common_prefix(ids, whole), begin + 1) - begins[0])
            for begin, ids in zip(begins, encoded[shots:], strict=True)
        ]
        return ScoreRequest.of(whole[: begins[0]], whole[begins[0] :]), tuple(spans)

    def _text(
        self, fields: Mapping[str, Any], options: tuple[str, ...], drawn: Sequence[Example], seed: int
    ) -> PromptText:
        """The rendered prompt. In a chat, its texts may not contain control tokens."""
        protocol = self.prepared.task.definition.protocol
        labels = [self._label(each, seed) for each in drawn]
        solved = [self._demonstration(each, *label) for each, label in zip(drawn, labels, strict=True)]
        text = assemble(
            self.prepared.prompt,
            fields,
            options,
            [demonstration for demonstration, _ in solved],
            order=positions(protocol.order, [options[index] for options, index in labels]),
            replies=[reply for _, reply in solved],
            chat=self._form.chat if self._form else None,
        )
        self._check_chat_texts(text.instruction, *text.queries[:1], *text.answers)
        return text

    def _label(self, demonstration: Example, seed: int) -> tuple[tuple[str, ...], int]:
        """The options of a demonstration, and the index of the option that it shows as its answer."""
        labels, task = self.prepared.task.definition.protocol.labels, self.prepared.task.name
        if labels == "gold":
            return demonstration.options, demonstration.gold[0]
        options = shown_options(labels, demonstration.options, task, seed)
        return options, shown_label(labels, demonstration, task, seed)

    def _check_chat_texts(self, *texts: str) -> None:
        """Raise `PromptError` if the run is a chat and the prompt file contains the name of a control token."""
        for name in [name for text in texts if self._form for name in self._controls.names_in(text)]:
            raise PromptError(
                f"the prompt contains {name}, but in a chat only the chat template may write control tokens",
                self.prepared.prompt.path,
            )

    def _decoding(self, decode: Decode, seed: int) -> Decoding:
        """How an answer is generated; in a chat, it also stops where the template ends a reply."""
        return replace(decoding(decode, seed), reply_end=(self._form.end or None) if self._form else None)

    def _answer_context(self, fields: Mapping[str, Any]) -> str:
        """What the unconditional likelihood of an answer is conditioned on."""
        return self._in_chat(self.prepared.prompt.answer_context(fields))

    def _in_chat(self, context: str) -> str:
        """A context; in a chat, as a conversation with this message alone."""
        return context if self._form is None else self._form.chat.context("", (), context)

    def _for_calibration(
        self, example: Example, options: tuple[str, ...], text: PromptText, shots: int
    ) -> Iterator[ScoreRequest]:
        """Requests for each option after the domain premise, then after the prompt with each content-free input."""
        if self._premise is not None:
            premise = self._in_chat(self._premise.query(self._controls.mark(example.fields), options, 0))
            yield from (self._without_context(premise, answer) for answer in text.answers)
        for content in self.prepared.content_free:
            yield from self._content_free(example, options, text, shots, content)

    def _content_free(
        self, example: Example, options: tuple[str, ...], text: PromptText, shots: int, content: str
    ) -> list[ScoreRequest]:
        """Requests for each option after the prompt in which a content-free input replaces the query.

        Raises:
            PromptError: the template cannot be rendered with this input.
            WindowError: the prompt does not fit.
        """
        prompt, content_fields = self.prepared.prompt, self.prepared.prompt.content_fields
        fields = {name: replaced(v, content) if name in content_fields else v for name, v in example.fields.items()}
        fields = self._controls.mark(fields)
        try:
            instruction, queries = prompt.instruction(fields), prompt.queries(fields, options)
        except PromptError as error:
            raise PromptError(
                f"{error.message}, with the content-free input {content!r}", error.path, error.line
            ) from error
        contexts = replace(text, instruction=instruction, queries=queries).contexts(shots)
        pairs = list(zip(contexts, text.answers, strict=True))
        last, requests = self._last_content_free.get((content, shots), ([], []))
        if pairs != last:
            scored = self._split(pairs)
            if (longest := max(each.input_length for each in scored)) > self.model.window:
                raise WindowError(
                    f"the prompt with the content-free input {content!r} takes {longest} tokens but the context length "
                    f"is {self.model.window}"
                )
            requests = [ScoreRequest.of(each.context, each.continuation) for each in scored]
            self._last_content_free[content, shots] = pairs, requests  # always the same for fixed demonstrations
        return requests

    def _fit(
        self, text: PromptText, window: int, split: Callable[[list[tuple[str, str]]], list[Scored]]
    ) -> FittedPrompt:
        return fit(text, split, window, self.overflow, self._lengths_of, len(self._start))

    def _fit_whole(self, text: PromptText, shots: int) -> FittedPrompt:
        """Fit the prompt, or if the text alone is too long, keep it whole, to be scored in several windows."""
        try:
            return self._fit(text, self.model.window, self._split)
        except WindowError:
            if shots and self.overflow == "error":
                raise
            return FittedPrompt(tuple(self._split([(text.context(0, 0), text.answers[0])])), 0, 0)

    def _room_for_prompt(self, max_tokens: int) -> int:
        """Most tokens of a prompt before an answer of `max_tokens`; the answer's last token is not an input."""
        return self.model.window if self._apart else self.model.window - max_tokens - 1

    def _likelihood(self, text: Scored, stride: int | None) -> tuple[ScoreRequest, ...]:
        """One request, or several for a text that is longer than the context length."""
        if text.input_length <= self.model.window:
            return (ScoreRequest.of(text.context, text.continuation),)
        return tuple(strides(text, self.model.window, stride or self.model.window))

    def _contexts(self, texts: list[tuple[str, str]]) -> list[Scored]:
        """Encoded prompts without an answer, for generation."""
        encoded = self.model.encode([context for context, _ in texts])
        begun = [with_start(self._start, ids) for ids in encoded]
        return [Scored(ids or [self.model.fallback], [], apart=self._apart) for ids in begun]

    def _demonstration(self, demonstration: Example, options: tuple[str, ...], label: int) -> tuple[str, str]:
        """The text of a demonstration with the option of this index, and its answer alone."""
        key = demonstration.id, options, label
        if key not in self._demonstration_texts:
            try:
                record = demonstration.fields, options
                fields, options = self._controls.mark(record, self.control_names)
                prompt = self.prepared.prompt
                text = prompt.demonstration(fields, options, label)
                has_reply = self._form is not None or self.prepared.per_shot_loss
                reply = prompt.reply(text, fields, options, label) if has_reply else ""
                self._check_chat_texts(text)
                self._demonstration_texts[key] = text, reply
            except PromptError as error:
                message = f"{error.message}, in the demonstration {_quoted_id(demonstration)}"
                raise PromptError(message, error.path, error.line) from error
        return self._demonstration_texts[key]

    def _split(self, texts: list[tuple[str, str]]) -> list[Scored]:
        encoded = encode_apart if self._apart else split_tokens
        return encoded(self.model.encode, texts, self._start, self.model.fallback)

    def _lengths_of(self, texts: list[str]) -> list[int]:
        new = [text for text in dict.fromkeys(texts) if text not in self._lengths]
        self._lengths.update(zip(new, map(len, self.model.encode(new)), strict=True))
        return [self._lengths[text] for text in texts]

    def _without_context(self, context: str, answer: str) -> ScoreRequest:
        if len(self._unconditional) > MAX_UNCONDITIONAL:
            self._unconditional.clear()
        if (context, answer) not in self._unconditional:
            (scored,) = self._split([(context, answer)])
            if scored.input_length > self.model.window:
                raise WindowError(
                    f"an option after the answer context or domain premise takes {scored.input_length} tokens "
                    f"but the context length is {self.model.window}"
                )
            self._unconditional[context, answer] = ScoreRequest.of(scored.context, scored.continuation)
        return self._unconditional[context, answer]


def replaced(value: Any, content: str) -> Any:
    """A field with all texts and numbers replaced by a content-free input, also inside lists and mappings."""
    if isinstance(value, Mapping):
        return {key: replaced(each, content) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(each, content) for each in value]
    return value if value is None or isinstance(value, bool) else content


def domain_premise(task: str, template: str) -> Prompt:
    """A prompt whose query is the domain premise of a task.

    Raises:
        PromptError: the template cannot be parsed.
    """
    return Prompt(template, f"domain_premise of {task}")


def _unmarked(text: PromptText, unmark: Callable[[str], str]) -> PromptText:
    """A prompt without the marks of control tokens, as it is shown to people."""
    return replace(
        text,
        instruction=unmark(text.instruction),
        demonstrations=tuple(map(unmark, text.demonstrations)),
        replies=tuple(map(unmark, text.replies)),
        queries=tuple(map(unmark, text.queries)),
        answers=tuple(map(unmark, text.answers)),
    )


def _quoted_id(example: Example) -> str:
    """An example's id for messages, shortened because it may be a whole text."""
    return repr(example.id if len(example.id) <= LONGEST_ID else f"{example.id[:LONGEST_ID]}...")


def strides(text: Scored, window: int, stride: int) -> Iterator[ScoreRequest]:
    """Requests that score every token of a long text once, in order.

    The first request scores as many tokens as fit the window. Each further request scores the next `stride` tokens
    after as many earlier tokens as fit, or after a single one if the stride is the whole window, which is usual for the
    perplexity of long texts (Radford et al. 2019 use shorter strides). An encoder-decoder model has a window of this
    size for the earlier tokens and another for the scored tokens.

    Args:
        text: context and continuation.
        window: context length in tokens.
        stride: tokens that each further request scores; at most the window.
    """
    tokens, end = [*text.context, *text.continuation], len(text.context)
    room = window if text.apart else max(window + 1 - end, 1)  # of the first request
    while end < len(tokens):
        begin = end
        end = min(len(tokens), begin + (stride if begin > len(text.context) else room))
        start = max((begin if text.apart else end - 1) - window, 0)
        yield ScoreRequest.of(tokens[start:begin], tokens[begin:end])
