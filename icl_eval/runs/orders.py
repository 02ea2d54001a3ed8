"""`order_entropies`: rank orders of demonstrations without labelled queries (Lu et al. 2022, arXiv 2104.08786).

The model generates further examples after the demonstrations in every order. Without their labels, these examples are
the probing set. An order is good if the model, with the demonstrations in this order, does not predict the same label
for all probes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from icl_eval.config import RunOptions, takes_options
from icl_eval.engine import Engine
from icl_eval.errors import RunError, counted
from icl_eval.models import Decoding, GenerateRequest, LanguageModel, ScoreRequest
from icl_eval.prompts import PromptText, split_tokens, with_start
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.evaluate import planned
from icl_eval.runs.model import Model
from icl_eval.runs.requests import RequestBuilder
from icl_eval.scoring import OptionResult, label_entropies, score
from icl_eval.tasks import Example, Library, Normalization, Task

MAX_TOKENS = 128  # of a generated text, as in the code of the paper
MAX_ORDERS = 24
BEST = 4


@dataclass(frozen=True)
class OrderEntropy:
    """The entropies of the predicted labels of the probing set, with the demonstrations in one order.

    Attributes:
        order: name of the order, as for `--order`.
        global_entropy: entropy of the distribution of predicted labels, in nats (GlobalE).
        local_entropy: entropy of the label probabilities of a probe, averaged over probes, in nats (LocalE).
        labels: number of probes with each predicted label.
    """

    order: str
    global_entropy: float
    local_entropy: float
    labels: Mapping[str, int]


@dataclass(frozen=True)
class OrderEntropies:
    """The ranked orders of one draw of demonstrations.

    Attributes:
        task, prompt, shots, seed: the cell of the draw.
        draw: how demonstrations were drawn, `fixed` or `first`; empty if their ids were given.
        orders: every order with its entropies, the highest global entropy first.
        probes: the probing set, as texts of queries.
        discarded: number of generated examples without an answer or a query, and of duplicates.
    """

    task: str
    prompt: str
    shots: int
    seed: int
    draw: str
    orders: tuple[OrderEntropy, ...]
    probes: tuple[str, ...]
    discarded: int

    def best(self, count: int = BEST) -> tuple[str, ...]:
        """Names of the orders with the highest global entropy; the local entropy breaks ties."""
        return tuple(each.order for each in self.orders[:count])


@takes_options
def order_entropies(
    model: Model,
    task: str | Task,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    library: Library | None = None,
    **options: Unpack[RunOptions],
) -> OrderEntropies:
    """Rank orders of the same demonstrations by the entropies of the labels that the model predicts for a probing set.

    For an order m, the probing set D and labels v, `GlobalE_m = -sum_v p_m(v) ln p_m(v)`, where `p_m(v)` is the
    fraction of D with the predicted label v, and `LocalE_m = -(1/|D|) sum_i sum_v p_im(v) ln p_im(v)`, where `p_im` are
    the probabilities of the options with the task's normalisation (`sum` instead of `unconditional`), divided by their
    sum. The authors' code samples at temperature 2 without repeated n-grams and adds 1e-5 to the counts. This function
    samples at `temperature` and adds nothing.

    Args:
        model: a causal language model.
        task: a task with the same options for every example and at least two shots.
        samples: number of texts to generate after each order.
        temperature: of sampling.
        library: where the name is looked up; the bundled library by default.
        options: those of `evaluate`. Only the first of shots, seeds and prompts is used. `order` lists the orders,
            `permutations:24` by default. `draw` must be `fixed` (the default) or `first`, unless `fewshot_ids` are
            given.

    Raises:
        RunError: the task or an option is not supported, or no generated text contains an example.
        IclEvalError: as from `evaluate`.
    """
    orders = options.pop("order", None) or f"permutations:{MAX_ORDERS}"
    draw = options.pop("draw", None) or (None if options.get("fewshot_ids") else "fixed")
    chosen: Any = {**options, "order": orders, "draw": draw, "limit": None}
    run = planned(model, task, library, **chosen)
    plain, lm = run.prepared[0], run.load()
    shots, seed = plain.shots[0], run.config.seeds[0]
    variants = [each for each in run.prepared if each.prompt is plain.prompt and shots in each.shots]
    _check(plain.task, shots, draw, lm, {each.options for each in plain.examples}, chat=run.config.chat)
    example = plain.examples[0]
    drawn = plain.pool.draw(example, shots, seed) if plain.pool else []
    texts = {each.task.definition.protocol.order: _text(each, lm, shots, seed, example, drawn) for each in variants}
    engine = Engine(lm)
    probes, discarded = _probing_set(
        texts.values(), engine, Decoding(MAX_TOKENS, (), samples=samples, temperature=temperature, seed=seed)
    )
    if not probes:
        raise RunError(
            f"none of the {counted(discarded, 'sampled example')} has the form of an example of "
            f"{plain.task.name}; sample more texts"
        )
    found = [
        _entropy(order, text, probes, engine, example.options, plain.record.normalization)
        for order, text in texts.items()
    ]
    ranked = sorted(found, key=lambda each: (each.global_entropy, each.local_entropy), reverse=True)
    return OrderEntropies(
        plain.task.name, plain.prompt.style, shots, seed, draw or "", tuple(ranked), tuple(probes), discarded
    )


def _check(
    task: Task, shots: int, draw: str | None, model: LanguageModel, options: set[tuple[str, ...]], *, chat: bool
) -> None:
    """Raise `RunError` if the task, the draw or the model is not supported."""
    reason = ""
    if task.definition.answer != "choice" or len(options) > 1:
        reason = "needs the same options for every example"
    elif draw not in (None, "fixed", "first") or task.definition.protocol.within:
        reason = "needs the same demonstrations for every query: `draw` fixed or first, without `within`"
    elif shots < 2:
        reason = "needs 2 or more demonstrations"
    elif not model.can_generate or model.is_encoder_decoder:
        reason = f"needs a causal language model, which {model.name} is not"
    elif chat:
        reason = "needs plain-text prompts, not a chat"
    if reason:
        raise RunError(f"{task.name}: the entropy of orders {reason}")


def _probing_set(texts: Iterable[PromptText], engine: Engine, decoding: Decoding) -> tuple[list[str], int]:
    """Distinct queries that the model generates after the demonstrations, and the number of discarded examples."""
    model, probes, examples = engine.model, dict[str, None](), 0
    texts = list(texts)
    prefixes = [text.separator.join([*_head(text), ""]) for text in texts]
    requests = [
        GenerateRequest.of(
            with_start(model.start, ids) or [model.fallback], replace(decoding, seed=decoding.seed + number)
        )
        for number, ids in enumerate(model.encode(prefixes))
    ]
    for text, answer in zip(texts, engine.answer(requests), strict=True):
        for part in [part for generated in answer.texts for part in generated.split(text.separator) if part.strip()]:
            examples += 1
            if (query := _query(part, text.answers)) is not None:
                probes[query] = None
    return list(probes), examples - len(probes)


def _head(text: PromptText) -> list[str]:
    return [*([text.instruction] if text.instruction else []), *text.ordered_demonstrations()]


def _query(part: str, answers: Sequence[str]) -> str | None:
    """The text of a generated example before its answer; None if it does not end with an answer."""
    ends = [answer for answer in answers if part.endswith(answer) and part[: -len(answer)].strip()]
    return part[: -len(max(ends, key=len))] if ends else None


def _entropy(
    order: str,
    text: PromptText,
    probes: Sequence[str],
    engine: Engine,
    options: Sequence[str],
    normalization: Normalization,
) -> OrderEntropy:
    model = engine.model
    contexts = [text.separator.join([*_head(text), probe]) for probe in probes]
    encoded = [
        each
        for context in contexts
        for each in split_tokens(
            model.encode, [(context, answer) for answer in text.answers], model.start, model.fallback
        )
    ]
    answers = engine.answer([ScoreRequest.of(each.context, each.continuation) for each in encoded])
    by = "sum" if normalization == "unconditional" else normalization
    results = [
        OptionResult(continuation, answer.logprobs, ())
        for continuation, answer in zip(text.answers * len(probes), answers, strict=True)
    ]
    scores = np.array([score(each, by) for each in results])
    return entropies_of(order, scores.reshape(len(probes), len(options)), options)


def _text(
    prepared: PreparedTask, lm: LanguageModel, shots: int, seed: int, example: Example, drawn: list[Example]
) -> PromptText:
    """The rendered prompt of an example with these demonstrations."""
    cell = next(cell for cell in prepared.cells(seed) if cell.shots == shots)
    return RequestBuilder(prepared, lm, "error").build(cell, example, drawn).text


def entropies_of(order: str, scores: NDArray[np.float64], options: Sequence[str]) -> OrderEntropy:
    """The entropies of the labels with the highest scores.

    Args:
        order: name of the order.
        scores: score of each option for each probe in nats, (probes, options).
        options: names of the options.
    """
    chosen = Counter(scores.argmax(axis=1).tolist())
    shares = [chosen[index] / len(scores) for index in range(len(options))]
    return OrderEntropy(
        order,
        math.fsum(-share * math.log(share) for share in shares if share),
        float(label_entropies(scores).mean()),
        {option: chosen[index] for index, option in enumerate(options)},
    )
