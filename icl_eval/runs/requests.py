"""From an example to token ids: the requests of one query in one cell."""

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
from icl_eval.runs.cells import Prepared, decoding
from icl_eval.runs.model import ChatForm
from icl_eval.tasks import Decode, Example

Split = Callable[[list[tuple[str, str]]], list[Scored]]
LONGEST_NAME = 60  # characters of an id that a sentence shows
REMEMBERED = 10_000  # requests without a prompt, which the cells of an example share


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """One example in one cell, as the model gets it.

    Token ids are in its requests alone: many queries are in memory together, and a list of integers takes several times
    as much.
    """

    cell: Cell
    example: Example
    kind: Kind
    demonstrations: tuple[str, ...]  # ids of those that fit, in the order of the prompt
    text: PromptText
    shots: int  # effective: the demonstrations that fit
    truncated: int  # tokens cut from the start of the query
    input_length: int  # tokens of the longest answer's request that must fit the context length
    reads_by_seed: bool  # whether demonstrations or options have other texts with another seed
    requests: tuple[Request, ...]
    """Of a choice: each option after the prompt, after the answer context, after the domain premise if `has_domain`,
    and after the prompt with each content-free input."""
    has_domain: bool = False
    spans: tuple[tuple[int, int], ...] = ()  # of a last request, the scored tokens of each demonstration's answer

    @property
    def conditional(self) -> tuple[ScoreRequest, ...]:
        """Of a choice: each option after the prompt."""
        return tuple(each for each in self.requests[: len(self.text.answers)] if isinstance(each, ScoreRequest))

    @property
    def of_answers(self) -> tuple[Request, ...]:
        """The requests for the answer of the query itself."""
        return self.requests[:-1] if self.spans else self.requests

    @property
    def tokens(self) -> int:
        """Tokens of all requests, which the memory is proportional to."""
        return sum(len(request.tokens) for request in self.requests)


class RequestBuilder:
    """Encodes the examples of one prepared task for one model, and remembers what many queries share.

    Attributes:
        control_names: names in records that reach the model as control tokens, not as text.
    """

    def __init__(
        self, prepared: Prepared, model: LanguageModel, overflow: Overflow, chat: ChatForm | None = None
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
        """Every example in every cell."""
        return (query for seed in self.prepared.record.seeds for queries in self.of_seed(seed) for query in queries)

    def of_seed(self, seed: int, examples: Sequence[Example] | None = None) -> Iterator[list[EncodedQuery]]:
        """Every example (of some) in the cells of a seed, which stand together, since they share demonstrations."""
        cells = list(self.prepared.cells(seed))
        for example in (self.prepared.examples if examples is None else examples) if cells else ():
            draws = self.prepared.draws(example, [cell.shots for cell in cells], seed)
            yield [self.build(cell, example, drawn) for cell, drawn in zip(cells, draws, strict=True)]

    def build(self, cell: Cell, example: Example, drawn: list[Example]) -> EncodedQuery:
        """Render, fit and encode one query.

        Raises:
            IclEvalError: the template cannot be rendered for this example, or it does not fit the window.
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
        """One request that reads all demonstrations, and which of its scored tokens belong to each one's answer.

        A token that an answer shares with the text before it belongs to the answer; one that it shares with the text
        after it does not, unless it has no other.
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
        """The rendered prompt, in a chat without control tokens of its own."""
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
        """The options of a demonstration, and the one that it shows as its answer."""
        labels, task = self.prepared.task.definition.protocol.labels, self.prepared.task.name
        if labels == "gold":
            return demonstration.options, demonstration.gold[0]
        options = shown_options(labels, demonstration.options, task, seed)
        return options, shown_label(labels, demonstration, task, seed)

    def _check_chat_texts(self, *texts: str) -> None:
        """Raise `PromptError` if the prompt file of a chat writes a control token by its name."""
        for name in [name for text in texts if self._form for name in self._controls.names_in(text)]:
            raise PromptError(
                f"the prompt writes {name}, but in a chat all control tokens come from the chat template",
                self.prepared.prompt.path,
            )

    def _decoding(self, decode: Decode, seed: int) -> Decoding:
        """How an answer is generated; in a chat, it also stops where the template ends a reply."""
        return replace(decoding(decode, seed), reply_end=(self._form.end or None) if self._form else None)

    def _answer_context(self, fields: Mapping[str, Any]) -> str:
        """What the unconditional likelihood of an answer is conditioned on."""
        return self._in_chat(self.prepared.prompt.answer_context(fields))

    def _in_chat(self, context: str) -> str:
        """A context by itself, in a chat as its only message."""
        return context if self._form is None else self._form.chat.context("", (), context)

    def _for_calibration(
        self, example: Example, options: tuple[str, ...], text: PromptText, shots: int
    ) -> Iterator[ScoreRequest]:
        """Each option after the domain premise, then after the prompt with each content-free input."""
        if self._premise is not None:
            premise = self._in_chat(self._premise.query(self._controls.mark(example.fields), options, 0))
            yield from (self._without_context(premise, answer) for answer in text.answers)
        for content in self.prepared.content_free:
            yield from self._content_free(example, options, text, shots, content)

    def _content_free(
        self, example: Example, options: tuple[str, ...], text: PromptText, shots: int, content: str
    ) -> list[ScoreRequest]:
        """Each option after the prompt of an example with a content-free input, after the same demonstrations.

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
            self._last_content_free[content, shots] = pairs, requests  # of fixed demonstrations it is always the same
        return requests

    def _fit(
        self, text: PromptText, window: int, split: Callable[[list[tuple[str, str]]], list[Scored]]
    ) -> FittedPrompt:
        return fit(text, split, window, self.overflow, self._lengths_of, len(self._start))

    def _fit_whole(self, text: PromptText, shots: int) -> FittedPrompt:
        """As `_fit`, but a text that does not fit alone is kept whole, to be read in several windows."""
        try:
            return self._fit(text, self.model.window, self._split)
        except WindowError:
            if shots and self.overflow == "error":
                raise
            return FittedPrompt(tuple(self._split([(text.context(0, 0), text.answers[0])])), 0, 0)

    def _room_for_prompt(self, max_tokens: int) -> int:
        """Tokens that a prompt may take, so that an answer fits after it; its last token is no input."""
        return self.model.window if self._apart else self.model.window - max_tokens - 1

    def _likelihood(self, text: Scored, stride: int | None) -> tuple[ScoreRequest, ...]:
        """One request, or several for a text beyond the window."""
        if text.input_length <= self.model.window:
            return (ScoreRequest.of(text.context, text.continuation),)
        return tuple(strides(text, self.model.window, stride or self.model.window))

    def _contexts(self, texts: list[tuple[str, str]]) -> list[Scored]:
        """Prompts alone, after which the model generates."""
        encoded = self.model.encode([context for context, _ in texts])
        begun = [with_start(self._start, ids) for ids in encoded]
        return [Scored(ids or [self.model.fallback], [], apart=self._apart) for ids in begun]

    def _demonstration(self, demonstration: Example, options: tuple[str, ...], label: int) -> tuple[str, str]:
        """A demonstration that shows one of its options, and that answer."""
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
        if len(self._unconditional) > REMEMBERED:
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
    """A field whose texts and numbers are replaced by a content-free input, also those in lists and mappings."""
    if isinstance(value, Mapping):
        return {key: replaced(each, content) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(each, content) for each in value]
    return value if value is None or isinstance(value, bool) else content


def domain_premise(task: str, template: str) -> Prompt:
    """The domain premise of a task as a prompt whose query it is.

    Raises:
        PromptError: it does not parse.
    """
    return Prompt(template, f"domain_premise of {task}")


def _unmarked(text: PromptText, unmark: Callable[[str], str]) -> PromptText:
    """A prompt as people read it."""
    return replace(
        text,
        instruction=unmark(text.instruction),
        demonstrations=tuple(map(unmark, text.demonstrations)),
        replies=tuple(map(unmark, text.replies)),
        queries=tuple(map(unmark, text.queries)),
        answers=tuple(map(unmark, text.answers)),
    )


def _quoted_id(example: Example) -> str:
    """An example's id in a sentence; it may be a whole text."""
    return repr(example.id if len(example.id) <= LONGEST_NAME else f"{example.id[:LONGEST_NAME]}...")


def strides(text: Scored, window: int, stride: int) -> Iterator[ScoreRequest]:
    """Requests whose continuations are the text's tokens, each once and in order.

    The first reads as much as a window holds. Every further one scores the next `stride` tokens, after as many of those
    before them as the window then has room for: with a stride of the whole window after a single one, as the perplexity
    of a long text is usually taken (Radford et al. 2019 use shorter strides). An encoder and a decoder have a window
    each: one for the tokens before, one for those that are scored.

    Args:
        text: context and continuation.
        window: tokens the model reads at once.
        stride: tokens that a further window adds; at most the window.
    """
    tokens, end = [*text.context, *text.continuation], len(text.context)
    room = window if text.apart else max(window + 1 - end, 1)  # of the first request
    while end < len(tokens):
        begin = end
        end = min(len(tokens), begin + (stride if begin > len(text.context) else room))
        start = max((begin if text.apart else end - 1) - window, 0)
        yield ScoreRequest.of(tokens[start:begin], tokens[begin:end])
