"""The grid of a run: every task with each of its prompts, its examples, and the record that the manifest stores."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from icl_eval.demos import Pool, depends_on_seed, order_exists
from icl_eval.demos.similarity import Encoder
from icl_eval.errors import DataError, RunError
from icl_eval.metrics import needs_moments
from icl_eval.models import Decoding, encoder_words, text_encoder
from icl_eval.prompts import Prompt
from icl_eval.results.records import Cell, TaskRecord
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import VARIANT
from icl_eval.runs.tasks import check_demonstrations, check_seeds, is_sampled
from icl_eval.scoring import CONTEXTUAL
from icl_eval.tasks import AnswerKind, Decode, Example, Source, Splits, Task, TaskDefinition, limited
from icl_eval.tasks.protocol import Protocol
from icl_eval.values import OLMES

MAX_CATEGORIES = 1000
CONTENT_FREE = ("N/A", "", "[MASK]")  # the inputs of Zhao et al. 2021


@dataclass(frozen=True)
class PreparedTask:
    """A task with one of its prompts, its examples and its pool of demonstrations, ready to be evaluated.

    Attributes:
        task: the task, with the splits and the protocol of the run.
        prompt: one of its prompts.
        examples: the examples to evaluate.
        whole: all examples of the evaluated split.
        pool: the candidates that demonstrations are drawn from; None without demonstrations.
        shots: numbers of demonstrations, in ascending order.
        describe: makes the record.
        per_shot_loss: whether the answers of demonstrations are scored, too.
        domain_premise: template of the domain premise if a calibration of the run needs it, otherwise empty.
        content_free: content-free inputs that a calibration of the run needs.
        choose: if the model selects demonstrations: example, number of shots, seed -> demonstrations.
    """

    task: Task
    prompt: Prompt
    examples: Sequence[Example]
    whole: Sequence[Example]
    pool: Pool | None
    shots: tuple[int, ...]
    describe: Callable[[], TaskRecord]
    per_shot_loss: bool = False
    domain_premise: str = ""
    content_free: tuple[str, ...] = ()
    choose: Callable[[Example, int, int], list[Example]] | None = None

    @cached_property
    def record(self) -> TaskRecord:
        """What the manifest stores about the task; made on first use, because it reads all examples."""
        return self.describe()

    def with_record(self, **changes: Any) -> PreparedTask:
        """The same task with a changed record."""
        record = self.record.model_copy(update=changes)
        return replace(self, describe=lambda: record)

    @property
    def moments(self) -> bool:
        """Whether a metric needs the expectation and standard deviation of each token's log-probability."""
        return needs_moments(self.record.metrics)

    def cells(self, seed: int) -> Iterator[Cell]:
        """The cells of one seed."""
        return (cell for cell in self.record.cells if cell.seed == seed)

    def draws(self, example: Example, numbers: Sequence[int], seed: int) -> list[list[Example]]:
        """The demonstrations of an example for each of several numbers of shots.

        Raises:
            IclEvalError: the pool has too few candidates, or the model cannot select them.
        """
        if self.pool is None:
            return [[] for _ in numbers]
        if self.choose is not None:
            return [self.choose(example, number, seed) if number else [] for number in numbers]
        drawn = self.pool.draw(example, max(numbers), seed)
        return [drawn[:number] for number in numbers]

    def request_count(self) -> int:
        """The number of requests of all cells.

        Each option is scored after the prompt, after the answer context, and for calibrations after the domain premise
        and after each content-free input. A generated answer or a likelihood counts as one request, although a text
        longer than the context length takes several.
        """
        choice = self.task.definition.answer == "choice"
        contexts = 2 + bool(self.domain_premise) + len(self.content_free)
        per_cell = sum(contexts * len(example.options) if choice else 1 for example in self.examples)
        cells = [cell for seed in self.record.seeds for cell in self.cells(seed)]
        return per_cell * len(cells) + len(self.examples) * sum(map(self.reads_demonstrations, cells))

    def reads_demonstrations(self, cell: Cell) -> bool:
        """Whether the answers of demonstrations are scored in a cell: only in cells with the most demonstrations."""
        return self.per_shot_loss and 0 < cell.shots == self.shots[-1]


def prepare(task: Task, style: str | None, config: RunConfig, source: Source) -> list[PreparedTask]:
    """Read a task's data and check it before any model runs.

    Returns:
        The task with its prompt, or with two prompts if it has its own prompt for 0 shots and `style` is None. After
        each prompt come its other formats, and after each of these its variants with other demonstrations.

    Raises:
        IclEvalError: its data, prompts or demonstrations do not suit the configuration.
    """
    default = task.definition.splits
    original = task.on(config.split, config.fewshot_split)
    task = original.with_protocol(config.protocol())
    numbers = _numbers_of_shots(task, config.shots)
    parts = [(task.prompt(style), tuple(numbers))]
    zero_shot = task.definition.zero_shot_prompt
    if style is None and zero_shot and numbers[0] == 0:
        parts = [(task.prompt(zero_shot), (0,)), *([(task.prompt(), tuple(numbers[1:]))] if numbers[1:] else [])]
    plain = [_prepared(task, prompt, shots, style or "", default, config, source) for prompt, shots in parts]
    varied = [
        (changed, original.with_protocol(config.protocol(changed)).definition.protocol) for changed in config.variants
    ]
    return [each for prepared in plain for each in _grid(prepared, varied, config)]


def _grid(
    plain: PreparedTask, varied: Sequence[tuple[Mapping[str, str], Protocol]], config: RunConfig
) -> Iterator[PreparedTask]:
    """A prompt and its other formats, each followed by its variants.

    Args:
        plain: the task with the prompt itself.
        varied: what each variant changes, and its protocol.
        config: of the run.

    Raises:
        RunError: there are several seeds, but the run selects the same demonstrations for all of them.
        PromptError: the prompt has fewer formats than requested.
    """
    pools = {"": plain.pool}
    for selection, protocol in ((changed.get("select", ""), protocol) for changed, protocol in varied):
        if plain.pool and selection not in pools:
            pools[selection] = plain.pool.under(protocol, _encoder(protocol))
    check_seeds(plain.task, [*pools.values()], config)
    for base in (plain, *_formats(plain, config.drawn_formats)):
        yield base
        for changed, protocol in varied:
            order = changed.get("order")
            shots = tuple(k for k in base.shots if k and (order is None or order_exists(order, k)))
            if shots:
                task, pool = base.task.under(protocol), pools[changed.get("select", "")]
                check_demonstrations(task, base.examples, pool, shots[-1])
                seeds = _seeds(task, pool, config)
                describe = partial(_varied, base, task, changed, shots, seeds)
                yield replace(base, task=task, pool=pool, shots=shots, describe=describe)


def _formats(plain: PreparedTask, drawn: tuple[int, int] | None) -> list[PreparedTask]:
    """The task with each other format of its prompt.

    Args:
        plain: the task with the prompt itself.
        drawn: the number of formats, the prompt itself included, and the seed of their draw; None for no other format.

    Raises:
        PromptError: the prompt has fewer formats.
    """
    return [_format(plain, prompt, drawn[1]) for prompt in plain.prompt.formats(*drawn)[1:]] if drawn else []


def _format(plain: PreparedTask, prompt: Prompt, seed: int) -> PreparedTask:
    """The task with another format of its prompt; the stop strings of generated answers follow the format."""
    decode = plain.task.definition.decode
    stops = [prompt.stop(text) for text in decode.stop] if decode else []
    task = plain.task.with_decoding({"stop": stops})

    def describe() -> TaskRecord:
        changed = {"prompt": prompt.style, "selection": prompt.style, "separator": prompt.separator, "reference": None}
        ending = decoding(task.definition.decode, seed=0).ending if task.definition.decode else ""
        words = f"{prompt.format.words if prompt.format else ''}, seed {seed}"
        digest = _digest(plain.record.digest, prompt.digest)
        return plain.record.model_copy(update=changed | {"format": words, "digest": digest, "ending": ending})

    return replace(plain, task=task, prompt=prompt, describe=describe)


def _varied(
    base: PreparedTask, task: Task, changed: Mapping[str, str], shots: tuple[int, ...], seeds: tuple[int, ...]
) -> TaskRecord:
    """The record of a variant, whose prompt is named after the plain prompt and the changes."""
    suffix = VARIANT + ",".join(f"{name}={value}" for name, value in changed.items())
    record = base.record
    update = {
        "prompt": record.prompt + suffix,
        "selection": record.selection + suffix,
        "draw": _draw_words(task.definition.protocol),
        "shots": shots,
        "seeds": seeds,
    }
    return record.model_copy(update=update)


def _numbers_of_shots(task: Task, shots: tuple[int, ...]) -> list[int]:
    """The numbers of demonstrations in ascending order; only 0 if the task has no demonstrations.

    Raises:
        RunError: the task has no demonstrations, and 0 is not among the numbers.
    """
    numbers = set(shots or (task.definition.own_shots,))
    if task.definition.splits.demonstrations is not None:
        return sorted(numbers)
    if 0 not in numbers:
        raise RunError(f"{task.name} has no demonstrations, so it can only be evaluated with 0 shots")
    return [0]


def _prepared(
    task: Task,
    prompt: Prompt,
    shots: tuple[int, ...],
    selection: str,
    default: Splits,
    config: RunConfig,
    source: Source,
) -> PreparedTask:
    whole = task.evaluation(source)
    task.check_fields(source)
    examples = limited(whole, config.limit, task.name)
    protocol = task.definition.protocol
    candidates = task.demonstrations(source) if shots[-1] else []
    text_of = partial(task.query_text, prompt=prompt)
    pool = Pool.of(task, candidates, text_of, examples, _encoder(protocol)) if candidates else None
    check_demonstrations(task, examples, pool, shots[-1])
    calibrations = _calibrations(task.definition, prompt, config)
    of_run = {
        "prompt": prompt.style,
        "selection": selection,
        "partial": task.definition.answer == "choice" and prompt.is_partial,
        "separator": prompt.separator,
        "split": _override(task.definition.splits.evaluation, default.evaluation),
        "fewshot_split": _override(task.definition.splits.demonstrations, default.demonstrations),
        "shots": shots,
        "seeds": _seeds(task, pool, config),
        "data": task.source_in(source).label,
        "categories": categories_of(task, whole),
        "head": str(config.limit).startswith("first:") and len(examples) < len(whole),
        "sampling": OLMES if config.limit == OLMES and len(examples) < len(whole) else "",
        **calibrations,
    }

    def describe() -> TaskRecord:
        words = [*_words(whole, task.definition.answer)]
        pool_words = words if candidates is whole else [*_words(candidates, task.definition.answer)]
        return TaskRecord(
            **of_run,
            **_of_definition(task.definition),
            digest=_digest(task.digest, prompt.digest, config.overflow, *words),
            pool=_digest(*pool_words) if candidates else "",
            examples=len(examples),
            total_examples=len(whole),
        )

    return PreparedTask(
        *(task, prompt, examples, whole, pool, shots, describe),
        per_shot_loss=config.per_shot_loss,
        domain_premise=calibrations["domain_premise"],
        content_free=calibrations["content_free"],
    )


def _calibrations(definition: TaskDefinition, prompt: Prompt, config: RunConfig) -> dict[str, Any]:
    """Fields of the record: the calibrations that apply to the task, and the inputs that these need."""
    calibrate = config.calibrate if definition.answer == "choice" and not prompt.is_partial else ()
    return {
        "calibrate": calibrate,
        "domain_premise": (definition.score.domain_premise or "") if "dc-pmi" in calibrate else "",
        "content_free": (config.content_free or CONTENT_FREE) if {*CONTEXTUAL} & {*calibrate} else (),
    }


def _of_definition(definition: TaskDefinition) -> dict[str, Any]:
    """The fields of the record that come from a task's definition."""
    decode = definition.decode
    return {
        "task": definition.task,
        "metrics": definition.metric_names,
        "primary": definition.primary_metrics,
        "extract": definition.extract,
        "answer": definition.answer,
        "normalization": definition.score.normalization,
        "scoring": _scoring(definition),
        "ending": decoding(decode, seed=0).ending if decode else "",
        "reasoning_end": decode.reasoning_end if decode else None,
        "draw": _draw_words(definition.protocol),
        "reference": definition.reference,
        "version": definition.version,
        "by": definition.by,
    }


def _seeds(task: Task, pool: Pool | None, config: RunConfig) -> tuple[int, ...]:
    """The seeds of a task: only the first one if demonstrations, labels and answers do not depend on the seed."""
    draws = pool is None or pool.seeds_differ or is_sampled(task) or depends_on_seed(task.definition.protocol.labels)
    return config.seeds if draws else config.seeds[:1]


def _encoder(protocol: Protocol) -> Encoder | None:
    return text_encoder(protocol.encoder) if protocol.encoder else None


def _draw_words(protocol: Protocol) -> str:
    return protocol.draw_words(encoder_words(protocol.encoder) if protocol.encoder else "")


def _scoring(definition: TaskDefinition) -> str:
    """The word of the signature that says how a generated answer or a likelihood is scored; empty for a choice."""
    if definition.decode is not None:
        return decoding(definition.decode, seed=0).method
    if definition.answer == "likelihood":
        return f"stride{definition.score.stride}" if definition.score.stride else "sum"
    return ""


def decoding(decode: Decode, seed: int) -> Decoding:
    """How answers are generated, sampled with this seed."""
    settings = decode.model_dump()
    return Decoding(**{**settings, "stop": tuple(decode.stop)}, seed=seed)


def _override(chosen: object, default: object) -> str:
    """The name of the chosen split, or an empty string if it is the task's default."""
    return "" if chosen == default else str(chosen)


def _words(examples: Sequence[Example], kind: AnswerKind) -> Iterator[str]:
    """A line for each example with everything that a score can depend on, whatever the layout of the data."""
    for each in examples:
        references = "" if kind == "choice" else f" {each.options}"  # options are part of the fingerprint
        gold = f"{each.gold} {each.grades}" if each.grades else each.gold
        category = f" {each.category!r}" if each.category else ""
        yield f"{each.fingerprint} {gold} {each.id} {each.cluster} {each.group}{references}{category}"


def categories_of(task: Task, examples: Sequence[Example]) -> dict[str, int]:
    """The number of examples in each category; empty if the task has no categories.

    Raises:
        DataError: there are too many categories to score each one.
    """
    by = task.definition.by
    counts = Counter(each.category for each in examples) if by else {}
    if by and len(counts) > MAX_CATEGORIES:
        raise DataError(
            f"{task.name}: `by` is {by.field!r}, which has {len(counts)} values; at most {MAX_CATEGORIES} categories "
            "can be scored",
            task.path,
        )
    return dict(counts)


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]
