"""Evaluated examples: everything that scores need, so that they can be recomputed without a model."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from icl_eval.engine import ENDINGS
from icl_eval.errors import RunError
from icl_eval.metrics import AnyPrediction, Kind, LikelihoodPrediction, Prediction, TextPrediction
from icl_eval.models import answer_start
from icl_eval.results.records import Cell, TaskRecord
from icl_eval.scoring import OptionResult, Ranking, close_options, rank, score, score_noise
from icl_eval.tasks import Normalization
from icl_eval.tasks.example import are_grades
from icl_eval.tasks.files import parse_json

FOR_CALIBRATION = ("domain", "content_free")  # fields of an option
MOMENTS = ("means", "sds")  # fields of a likelihood
ONLY = Ranking(chosen=0, tied=False, margin=math.inf)


@dataclass(frozen=True, slots=True)
class ExampleResult(ABC):
    """One answered example of one cell; a line of `examples.jsonl`."""

    kind: ClassVar[Kind]

    cell: Cell
    id: str
    cluster: str
    group: str
    shots: int  # effective
    truncated: int
    demonstrations: tuple[str, ...]
    category: str = field(default="", kw_only=True)
    demonstration_logprobs: tuple[float, ...] = field(default=(), kw_only=True)
    """Of the answer of each demonstration after those before it, in nats, in the order of the prompt."""

    @abstractmethod
    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:
        """The predictions for metrics: one, or one for every sample; only options are ranked."""

    @property
    @abstractmethod
    def question(self) -> Hashable:
        """What is the same for every answer to this example, whatever the prompt and the model."""

    @property
    @abstractmethod
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities of tokens in nats, by option or text."""

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """The log-probability of each token, in nats, by option; none of generated texts."""
        return self.logprobs

    @property
    def texts(self) -> tuple[str, ...]:
        """The generated texts."""
        return ()

    def rank(self, normalization: Normalization) -> Ranking:  # noqa: ARG002
        """Which option wins under a normalisation, by how much, and whether another is as good; the only answer."""
        return ONLY

    def rivals(self, normalization: Normalization, noise: float) -> tuple[int, ...]:  # noqa: ARG002
        """The options that could win in another batch, given the arithmetic noise of a token."""
        return ()

    @property
    def hit_max_tokens(self) -> int:
        """Number of texts that were cut at `max_tokens`."""
        return 0

    @property
    def empty(self) -> int:
        """Number of texts without any words."""
        return 0

    def without_reasoning(self, end: str | None) -> tuple[ExampleResult, int]:  # noqa: ARG002
        """The same with the answers in its texts alone, and the number of texts whose reasoning does not end."""
        return self, 0

    def in_category(self, category: str) -> ExampleResult:
        """The same in another category; `dataclasses.replace` takes several times as long."""
        found = copy(self)
        object.__setattr__(found, "category", category)
        return found

    def entry(self) -> dict[str, Any]:
        """What the line of `examples.jsonl` says."""
        found = {"kind": self.kind, **asdict(self)}
        if not self.demonstration_logprobs:
            del found["demonstration_logprobs"]
        return found

    def line(self) -> str:
        """The JSON line of `examples.jsonl`."""
        return json.dumps(self.entry(), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ChoiceResult(ExampleResult):
    """What was scored for each option."""

    kind: ClassVar[Kind] = "choice"

    gold: tuple[int, ...]
    names: tuple[str, ...]  # the options themselves
    options: tuple[OptionResult, ...]
    grades: tuple[float, ...] = ()  # of the options, if they are not just right or wrong

    def entry(self) -> dict[str, Any]:
        """What the line of `examples.jsonl` says, without what was not collected for calibration."""
        entry = ExampleResult.entry(self)
        options = [{k: v for k, v in each.items() if v or k not in FOR_CALIBRATION} for each in entry["options"]]
        return {**entry, "options": options}

    def rank(self, normalization: Normalization) -> Ranking:
        """Which option wins under a normalisation."""
        return rank([score(option, normalization) for option in self.options])

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:
        """The option that was chosen, and the scores of all."""
        units = self.cluster, self.group
        return (Prediction(self.id, self.names, self.gold, ranking.chosen, *units, ranking.scores, self.grades),)

    @property
    def question(self) -> Hashable:
        """The options, and how right they are."""
        return self.names, self.gold, self.grades

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """Of every option's tokens."""
        return tuple(option.logprobs for option in self.options)

    def rivals(self, normalization: Normalization, noise: float) -> tuple[int, ...]:
        """The options whose score is within the arithmetic noise of the best one."""
        if not noise:
            return ()
        scores = [score(option, normalization) for option in self.options]
        return close_options(scores, [score_noise(option, normalization, noise) for option in self.options])


@dataclass(frozen=True, slots=True)
class TextResult(ExampleResult):
    """The generated text or samples, and why each ended: `stop`, `end` or `length`."""

    kind: ClassVar[Kind] = "text"

    references: tuple[str, ...]
    generated: tuple[str, ...]
    finished: tuple[str, ...]
    scores: tuple[float, ...]
    right: bool = True  # whether the references are right answers, or what must not be generated

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:  # noqa: ARG002
        """Every text."""
        common = (self.references, self.cluster, self.group, self.right)
        samples = self.generated if len(self.generated) > 1 else ()
        return tuple(TextPrediction(self.id, text, *common, samples) for text in self.generated)

    def without_reasoning(self, end: str | None) -> tuple[ExampleResult, int]:
        """The same with what follows `end` in each text; a text without it has no answer."""
        starts = [answer_start(text, end) for text in self.generated]
        answers = ["" if start is None else text[start:] for text, start in zip(self.generated, starts, strict=True)]
        return replace(self, generated=tuple(answers)), starts.count(None)

    @property
    def question(self) -> Hashable:
        """The references, and whether they are right."""
        return self.references, self.right

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """Of every text as a whole."""
        return tuple((value,) for value in self.scores)

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """None: only whole texts have log-probabilities."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The generated texts."""
        return self.generated

    @property
    def hit_max_tokens(self) -> int:
        """Number of texts that were cut at `max_tokens`."""
        return self.finished.count("length")

    @property
    def empty(self) -> int:
        """Number of texts without any words."""
        return sum(not text.strip() for text in self.generated)


@dataclass(frozen=True, slots=True)
class LikelihoodResult(ExampleResult):
    """The log-probabilities of a text, as many requests as it took; words and bytes are those of the reference."""

    kind: ClassVar[Kind] = "likelihood"

    parts: tuple[tuple[float, ...], ...]
    greedy: bool
    words: int
    bytes: int
    unspaced: bool = False  # whether most letters are of scripts without spaces between words
    means: tuple[tuple[float, ...], ...] = ()  # of each log-probability, its expectation, if a metric needs it
    sds: tuple[tuple[float, ...], ...] = ()  # and its standard deviation
    zlib_bytes: int = 0  # of the text compressed by zlib

    def entry(self) -> dict[str, Any]:
        """What the line of `examples.jsonl` says, without what no metric needs."""
        return {name: v for name, v in ExampleResult.entry(self).items() if v or name not in MOMENTS}

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:  # noqa: ARG002
        """The whole text's likelihood."""
        tokens = sum(map(len, self.parts))
        logprob = min(math.fsum(value for part in self.parts for value in part), 0.0)
        counts = (tokens, self.words, self.bytes)
        units = (self.cluster, self.group, self.unspaced)
        of_tokens = (self.parts, self.means, self.sds)
        return (LikelihoodPrediction(self.id, logprob, self.greedy, *counts, *units, *of_tokens, self.zlib_bytes),)

    @property
    def question(self) -> Hashable:
        """The length of the text; its tokens depend on the model."""
        return self.words, self.bytes

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """Of every token."""
        return self.parts

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """Of the tokens of all windows."""
        return (tuple(value for part in self.parts for value in part),)


KINDS: dict[str, type[ExampleResult]] = {each.kind: each for each in (ChoiceResult, TextResult, LikelihoodResult)}


REPAIR = "run the same command again to rewrite it"
# what `parse_example` raises for a damaged line
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def read_examples(path: Path, records: Iterable[TaskRecord] | None = None) -> Iterator[ExampleResult]:
    """The lines of an `examples.jsonl`.

    Args:
        path: the file.
        records: what the manifest keeps of each task and prompt; None if there is no manifest yet.

    Raises:
        RunError: the file is missing, or a line is damaged, of no cell of the run, or of an example that is there.
    """
    cells = None if records is None else {cell for record in records for cell in record.cells}
    seen: set[tuple[Cell, str]] = set()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    result = parse_example(line)
                except DAMAGED as error:
                    raise RunError(f"this line is damaged; {REPAIR}", path, number) from error
                if cells is not None and result.cell not in cells:
                    raise RunError(
                        f"this line is of {result.cell}, which is not in the manifest; {REPAIR}", path, number
                    )
                if (result.cell, result.id) in seen:
                    raise RunError(f"an earlier line has the same example of {result.cell}; {REPAIR}", path, number)
                seen.add((result.cell, result.id))
                yield result
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}; was the run finished?", path) from error


def parse_example(line: str | bytes) -> ExampleResult:
    """An `examples.jsonl` line, every field of which is checked: it may have been edited.

    Raises:
        DAMAGED: the line is not valid.
    """
    entry = parse_json(line)
    kind = KINDS[entry.pop("kind")]
    cell = Cell(**entry.pop("cell"))
    if kind is ChoiceResult:
        entry["options"] = [_option(option) for option in entry["options"]]
    if kind is LikelihoodResult:
        entry |= {name: [tuple(part) for part in entry[name]] for name in ("parts", *MOMENTS) if name in entry}
    rest: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
    result = kind(cell=cell, **rest)
    _check(result)
    return result


def _option(entry: dict[str, Any]) -> OptionResult:
    """An option of a choice; what a calibration needs is there if the run collected it."""
    known = entry["text"], tuple(entry["logprobs"]), tuple(entry["unconditional"])
    if len(entry) == len(known):
        return OptionResult(*known)
    return OptionResult(*known, tuple(entry.get("domain", ())), tuple(map(tuple, entry.get("content_free", ()))))


def _check(result: ExampleResult) -> None:
    """Raise one of `DAMAGED` if a field has a value that no run gives it; C does the loops, as there are many lines."""
    cell = result.cell
    names = (result.id, result.cluster, result.group, result.category, cell.task, cell.prompt)
    _check_strings(names, result.demonstrations)
    _check_counts(result.shots, result.truncated, cell.shots, cell.seed)
    _check_logprobs(result.demonstration_logprobs or (0.0,))
    if isinstance(result, ChoiceResult):
        _check_strings(result.names, tuple(option.text for option in result.options))
        _check_counts(*result.gold)
        if not max(result.gold, default=0) < len(result.names) == len(result.options):
            raise ValueError("options are missing")
        if result.grades and not (len(result.grades) == len(result.names) and are_grades(result.grades)):
            raise ValueError("the grades are not those of the options")
        if not (all(result.names) and all(option.text for option in result.options)):
            raise ValueError("an option is empty")
        for option in result.options:
            _check_logprobs(option.logprobs)
            for collected in (option.unconditional, option.domain):
                _check_logprobs(collected or (0.0,))
            for after_input in option.content_free:
                _check_logprobs(after_input)
        if len({(len(option.content_free), bool(option.domain)) for option in result.options}) > 1:
            raise ValueError("the options differ in what was collected of them")
    elif isinstance(result, TextResult):
        _check_strings(result.references, result.generated, result.finished)
        _check_logprobs(result.scores)
        if not len(result.generated) == len(result.finished) == len(result.scores):
            raise ValueError("the lists have different lengths")
        if not set(result.finished) <= set(ENDINGS) or type(result.right) is not bool:
            raise ValueError("an ending is unknown, or `right` is not a boolean")
    elif isinstance(result, LikelihoodResult):
        _check_counts(result.words, result.bytes, result.zlib_bytes)
        if not result.parts or type(result.greedy) is not bool:
            raise ValueError("`parts` is empty, or `greedy` is not a boolean")
        if type(result.unspaced) is not bool:
            raise ValueError("neither true nor false")
        for part in (*result.parts, *result.means):
            _check_logprobs(part)
        sizes, moments = [*map(len, result.parts)], (result.means, result.sds)
        if any(moments) and any([*map(len, each)] != sizes for each in moments):
            raise ValueError("the means or standard deviations differ in number from the log-probabilities")
        if min(chain.from_iterable(result.sds), default=0.0) < 0 or not math.isfinite(math.fsum(chain(*result.sds))):
            raise ValueError("a standard deviation is negative or not finite")


def _check_strings(*fields: Any) -> None:
    for values in fields:
        if type(values) is not tuple:
            raise TypeError("not a list")
        "".join(values).encode()  # fails for what is no string, and for half of a surrogate pair


def _check_counts(*values: Any) -> None:
    if not set(map(type, values)) <= {int} or min(values, default=0) < 0:
        raise ValueError("a count is negative or not a whole number")


def _check_logprobs(values: tuple[float, ...]) -> None:
    if not math.isfinite(math.fsum(values)) or max(values) > 0:
        raise ValueError("a log-probability is positive or not finite")
