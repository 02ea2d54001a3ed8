"""The signature of a score: everything that must be equal for two scores to be comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import icl_eval
from icl_eval.results.records import TaskRecord
from icl_eval.results.score import Score


def task_signature(
    record: TaskRecord,
    shots: int,
    seeds: tuple[int, ...],
    scoring: str,
    metric_words: str,
    model_words: str,
    category: str = "",
) -> str:
    """The signature of one metric of a task.

    Args:
        record: the record of the task in the manifest.
        shots: number of demonstrations.
        seeds: seeds of their draws.
        scoring: normalisation or calibration of options; not used for likelihoods and generated answers.
        metric_words: words of the metric for its settings.
        model_words: words for the model, such as `bos0|float32`.
        category: the scored category; empty for all examples.
    """
    words = [
        record.task,
        record.prompt,
        *([_one_word(record.format)] if record.format else []),
        f"k{shots}",
        record.draw,
        *_split_words(record.split, record.fewshot_split if shots else ""),
        _seed_words(seeds),
        "-".join(filter(None, (record.scoring, record.ending, _reasoning_words(record))))
        or _scoring_word(record, scoring),
        *([metric_words] if metric_words else []),
        model_words,
        *([record.sample] if record.sample else []),
        *([f"until{record.stopped.until:g}"] if record.sample and record.stopped else []),
        *([f"{record.by.field}:{_one_word(category)}"] if record.by and category else []),
        record.data,
        f"v{record.version}#{record.digest}" + (f"+{record.pool}" if shots else ""),
        f"icl-eval {icl_eval.__version__}",
    ]
    return "|".join(words)


def macro_signature(whole: Score, categories: Sequence[Score], words: str = "") -> str:
    """The signature of the mean over a task's categories, with a digest of the categories' signatures.

    Args:
        whole: the score of all examples.
        categories: the scores of the categories.
        words: description of the value, if it is not the mean.
    """
    digest = hashlib.sha256("\n".join(line.signature for line in categories).encode()).hexdigest()[:8]
    *others, version = whole.signature.split("|")
    words = words or f"macro mean of {len(categories)} values of {whole.by}"
    return "|".join([*others, f"{words}#{digest}", version])


def spread_signature(lines: Sequence[Score], axis: str) -> str:
    """The signature of the mean of scores along an axis, with a digest of all of their signatures."""
    digest = hashlib.sha256("\n".join(line.signature for line in lines).encode()).hexdigest()[:8]
    *words, version = lines[0].signature.split("|")
    return "|".join([*words, f"mean of {len(lines)} {axis}#{digest}", version])


def suite_signature(
    name: str,
    average: str,
    members: Sequence[Score],
    tasks: int,
    seeds: tuple[int, ...],
    *,
    split: str,
    fewshot_split: str,
    data: str,
) -> str:
    """The signature of a suite's average, with a digest of its members' signatures.

    Args:
        name: of the suite.
        average: `macro` or `micro`.
        members: the averaged scores.
        tasks: number of tasks.
        seeds: seeds of the draws of demonstrations.
        split, fewshot_split, data: these fields of the average.
    """
    digest = hashlib.sha256("\n".join(line.signature for line in members).encode()).hexdigest()[:8]
    words = [
        name,
        f"{average} mean of {tasks} tasks",
        f"k{max(line.shots for line in members)}",
        *_split_words(split, fewshot_split),
        _seed_words(seeds),
        data,
        f"#{digest}",
        f"icl-eval {icl_eval.__version__}",
    ]
    return "|".join(words)


def _reasoning_words(record: TaskRecord) -> str:
    return f"after({_one_word(record.reasoning_end)})" if record.reasoning_end else ""


def _scoring_word(record: TaskRecord, scoring: str) -> str:
    """The name of a normalisation or calibration, with a digest of the inputs that the task or the run chose for it."""
    inputs = record.calibration_inputs(scoring)
    digest = hashlib.sha256("\x1f".join(inputs).encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{scoring}#{digest}" if inputs else scoring


def _one_word(text: str) -> str:
    """A text without the separator of signatures; if this changes it, a digest is added to keep texts distinct."""
    plain = " ".join(text.replace("|", "/").split())
    is_plain = plain == text and "#" not in text
    return plain if is_plain else f"{plain}#{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _split_words(split: str, fewshot_split: str) -> list[str]:
    """Words for splits that are not the task's own."""
    return [f"{what}:{name}" for what, name in (("split", split), ("fewshot_split", fewshot_split)) if name]


def _seed_words(seeds: tuple[int, ...]) -> str:
    """`s0-4` for consecutive seeds, `s1,7` for others."""
    consecutive = len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[-1] + 1))
    return f"s{seeds[0]}-{seeds[-1]}" if consecutive else "s" + ",".join(map(str, seeds))
