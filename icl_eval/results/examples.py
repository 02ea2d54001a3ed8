"""Results of examples, `examples.jsonl`: all that is needed to compute scores without the model."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
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

CALIBRATION_FIELDS = ("domain", "content_free")  # of an option; empty unless a calibration needs them
MOMENTS = ("means", "sds")  # fields of a likelihood; empty unless a metric needs them
SINGLE_ANSWER = Ranking(chosen=0, tied=False, margin=math.inf)


@dataclass(frozen=True, slots=True)
class ExampleResult(ABC):
    """The result of an example in a cell; a line of `examples.jsonl`."""

    kind: ClassVar[Kind]

    cell: Cell
    id: str
    cluster: str
    group: str
    shots: int  # number of demonstrations that fit the context length
    truncated: int  # tokens cut from the start of the query
    demonstrations: tuple[str, ...]
    category: str = field(default="", kw_only=True)
    demonstration_logprobs: tuple[float, ...] = field(default=(), kw_only=True)
    """Log-probability of each demonstration's answer given the demonstrations before it, in nats, in prompt order."""

    @abstractmethod
    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:
        """The predictions that metrics score: one, or one for each sample.

        Args:
            ranking: of the options; it is ignored if there are none.
        """

    @property
    @abstractmethod
    def question(self) -> Hashable:
        """A value that is the same for this example in all runs, whatever the prompt and the model."""

    @property
    @abstractmethod
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities in nats of the tokens of each option, or of each text."""

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities in nats of the tokens of each option; empty for generated texts."""
        return self.logprobs

    @property
    def texts(self) -> tuple[str, ...]:
        """The generated texts."""
        return ()

    def rank(self, normalization: Normalization) -> Ranking:  # noqa: ARG002
        """The ranking of the options by their scores under a normalisation."""
        return SINGLE_ANSWER

    def rivals(self, normalization: Normalization, noise: float) -> tuple[int, ...]:  # noqa: ARG002
        """The options that could be chosen in another batch.

        Args:
            normalization: how the options are scored.
            noise: arithmetic noise of the log-probability of a token, in nats.
        """
        return ()

    @property
    def hit_max_tokens(self) -> int:
        """Number of texts that were cut at `max_tokens`."""
        return 0

    @property
    def empty(self) -> int:
        """Number of texts that are empty or white space."""
        return 0

    def without_reasoning(self, end: str | None) -> tuple[ExampleResult, int]:  # noqa: ARG002
        """The result without the reasoning in its texts, and the number of texts whose reasoning does not end."""
        return self, 0

    def in_category(self, category: str) -> ExampleResult:
        """The result in another category. Much faster than `dataclasses.replace`."""
        result = copy(self)
        object.__setattr__(result, "category", category)
        return result

    def entry(self) -> dict[str, Any]:
        """The JSON object of the line in `examples.jsonl`."""
        entry = {"kind": self.kind, **asdict(self)}
        if not self.demonstration_logprobs:
            del entry["demonstration_logprobs"]
        return entry

    def line(self) -> str:
        """The line in `examples.jsonl`."""
        return json.dumps(self.entry(), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ChoiceResult(ExampleResult):
    """The scored options of a multiple-choice example."""

    kind: ClassVar[Kind] = "choice"

    gold: tuple[int, ...]
    names: tuple[str, ...]  # texts of the options as in the task
    options: tuple[OptionResult, ...]
    grades: tuple[float, ...] = ()  # of the options; empty if options are just right or wrong

    def entry(self) -> dict[str, Any]:
        """The JSON object of the line in `examples.jsonl`, without empty fields for calibrations."""
        entry = ExampleResult.entry(self)
        options = [{k: v for k, v in each.items() if v or k not in CALIBRATION_FIELDS} for each in entry["options"]]
        return {**entry, "options": options}

    def rank(self, normalization: Normalization) -> Ranking:
        """The ranking of the options by their scores under a normalisation."""
        return rank([score(option, normalization) for option in self.options])

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:
        """One prediction: the chosen option, with the scores of all options."""
        units = self.cluster, self.group
        return (Prediction(self.id, self.names, self.gold, ranking.chosen, *units, ranking.scores, self.grades),)

    @property
    def question(self) -> Hashable:
        """The options, the right ones and the grades."""
        return self.names, self.gold, self.grades

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities in nats of the tokens of each option."""
        return tuple(option.logprobs for option in self.options)

    def rivals(self, normalization: Normalization, noise: float) -> tuple[int, ...]:
        """The options whose score differs from the best one by at most the arithmetic noise."""
        if not noise:
            return ()
        scores = [score(option, normalization) for option in self.options]
        return close_options(scores, [score_noise(option, normalization, noise) for option in self.options])


@dataclass(frozen=True, slots=True)
class TextResult(ExampleResult):
    """The generated texts, one per sample. `finished` is why each ended: `stop`, `end` or `length`."""

    kind: ClassVar[Kind] = "text"

    references: tuple[str, ...]
    generated: tuple[str, ...]
    finished: tuple[str, ...]
    scores: tuple[float, ...]
    right: bool = True  # whether the references are right answers, not wrong ones

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:  # noqa: ARG002
        """A prediction for each generated text."""
        common = (self.references, self.cluster, self.group, self.right)
        samples = self.generated if len(self.generated) > 1 else ()
        return tuple(TextPrediction(self.id, text, *common, samples) for text in self.generated)

    def without_reasoning(self, end: str | None) -> tuple[ExampleResult, int]:
        """The result with only what follows `end` in each text; a text without `end` becomes empty."""
        starts = [answer_start(text, end) for text in self.generated]
        answers = ["" if start is None else text[start:] for text, start in zip(self.generated, starts, strict=True)]
        return replace(self, generated=tuple(answers)), starts.count(None)

    @property
    def question(self) -> Hashable:
        """The references, and whether they are right answers."""
        return self.references, self.right

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """The log-probability in nats of each whole text."""
        return tuple((value,) for value in self.scores)

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """Empty, because only whole texts have log-probabilities."""
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
        """Number of texts that are empty or white space."""
        return sum(not text.strip() for text in self.generated)


@dataclass(frozen=True, slots=True)
class LikelihoodResult(ExampleResult):
    """The log-probabilities of a given text, in one part per request; `words` and `bytes` count the reference."""

    kind: ClassVar[Kind] = "likelihood"

    parts: tuple[tuple[float, ...], ...]
    greedy: bool
    words: int
    bytes: int
    unspaced: bool = False  # whether most letters are of scripts without spaces between words
    means: tuple[tuple[float, ...], ...] = ()  # expectation of each token's log-probability, if a metric needs it
    sds: tuple[tuple[float, ...], ...] = ()  # standard deviation of each token's log-probability, likewise
    zlib_bytes: int = 0  # size of the text after compression by zlib

    def entry(self) -> dict[str, Any]:
        """The JSON object of the line in `examples.jsonl`, without empty moments."""
        return {name: v for name, v in ExampleResult.entry(self).items() if v or name not in MOMENTS}

    def predictions(self, ranking: Ranking) -> tuple[AnyPrediction, ...]:  # noqa: ARG002
        """One prediction: the likelihood of the whole text."""
        tokens = sum(map(len, self.parts))
        logprob = min(math.fsum(value for part in self.parts for value in part), 0.0)
        counts = (tokens, self.words, self.bytes)
        units = (self.cluster, self.group, self.unspaced)
        of_tokens = (self.parts, self.means, self.sds)
        return (LikelihoodPrediction(self.id, logprob, self.greedy, *counts, *units, *of_tokens, self.zlib_bytes),)

    @property
    def question(self) -> Hashable:
        """The length of the text in words and bytes, since its tokens depend on the model."""
        return self.words, self.bytes

    @property
    def logprobs(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities in nats of the tokens of each part."""
        return self.parts

    @property
    def scored_tokens(self) -> tuple[tuple[float, ...], ...]:
        """The log-probabilities in nats of all tokens, as one sequence."""
        return (tuple(value for part in self.parts for value in part),)


KINDS: dict[str, type[ExampleResult]] = {each.kind: each for each in (ChoiceResult, TextResult, LikelihoodResult)}


REPAIR = "run the same command again to rewrite it"
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What `parse_example` raises for a damaged line."""


def read_examples(
    path: Path, records: Iterable[TaskRecord] | None = None, digest: str | None = None
) -> Iterator[ExampleResult]:
    """Read the results in an `examples.jsonl`.

    Args:
        path: the file.
        records: the records of the manifest, to check the cells; None to check no cells.
        digest: the digest in the manifest; None to accept any valid lines.

    Raises:
        RunError: the file is missing, or a line is damaged, repeated, or of a cell that is not in the manifest. At the
            end: the file has changed since the run.
    """
    cells = None if records is None else {cell for record in records for cell in record.cells}
    seen: set[tuple[Cell, str]] = set()
    found = sha256()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                found.update(line)
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
    if digest not in (None, found.hexdigest()):
        raise RunError(f"this file has changed since the run; {REPAIR}", path)


def parse_example(line: str | bytes) -> ExampleResult:
    """Parse a line of `examples.jsonl` and check every field, since the file may have been edited.

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
    """An option of a choice; the fields for calibrations may be missing."""
    known = entry["text"], tuple(entry["logprobs"]), tuple(entry["unconditional"])
    if len(entry) == len(known):
        return OptionResult(*known)
    return OptionResult(*known, tuple(entry.get("domain", ())), tuple(map(tuple, entry.get("content_free", ()))))


def _check(result: ExampleResult) -> None:
    """Raise one of `DAMAGED` if a field has an impossible value. Loops are in C, because there are many lines."""
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
