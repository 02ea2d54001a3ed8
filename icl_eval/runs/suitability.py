"""Whether a task and its candidates suit the demonstrations that a run selects, before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from icl_eval.demos import Pool, depends_on_seed, replaces_options
from icl_eval.errors import DataError, RunError, counted
from icl_eval.results.run_config import RunConfig
from icl_eval.tasks import Example, Task
from icl_eval.values import VOTE_K, abstract_words


def check_demonstrations(task: Task, examples: Sequence[Example], pool: Pool | None, shots: int) -> None:
    """Check that the candidates are enough, and that demonstrations can be chosen and labelled as the protocol says.

    Raises:
        DataError: there are fewer candidates than demonstrations, or than `vote-k` annotates.
        RunError: demonstrations cannot be chosen by options or answers, or cannot show the labels that they should.
    """
    protocol = task.definition.protocol
    if pool is not None:
        _check_size(task.name, pool, shots)
    if protocol.selection == "mdl" and task.definition.answer != "choice":
        raise RunError(f"{task.name} has no options, and `select: mdl` needs the model's probabilities of options")
    if protocol.selection == VOTE_K and task.definition.answer == "likelihood":
        raise RunError(f"{task.name} has no answers of the model, and `select: {VOTE_K}` needs its confidence in them")
    _check_labels(task, protocol.labels, chain(examples, pool.candidates if pool else ()))


def _check_size(task: str, pool: Pool, shots: int) -> None:
    wanted = counted(shots, "demonstration was", "demonstrations were")
    there = f"there {'is' if pool.size == 1 else 'are'} {pool.size}"
    if shots > pool.size:
        raise DataError(f"{task}: {wanted} requested, but {there} to draw from")
    if pool.protocol.selection != VOTE_K:
        return
    annotated, select = pool.protocol.annotation[0], pool.protocol.select
    if annotated > pool.size:
        raise DataError(
            f"{task}: {select} annotates {counted(annotated, 'candidate')}, but {there}; choose a smaller number, such "
            f"as {VOTE_K}:{max(pool.size // 2, 1)}"
        )
    if shots > annotated:
        raise DataError(f"{task}: {wanted} requested, but {select} annotates {annotated}")


def _check_labels(task: Task, labels: str, examples: Iterable[Example]) -> None:
    if labels == "gold":
        return
    if task.definition.answer != "choice":
        raise RunError(f"{task.name} has no options, so its demonstrations have no labels for `labels: {labels}`")
    if not replaces_options(labels):
        return
    options = {each.options for each in examples}
    if len(options) > 1:
        raise RunError(f"{task.name}: `labels: {labels}` needs the same options for every example")
    words, count = abstract_words(labels), len(next(iter(options)))
    if words is not None and len(words) != count:
        raise RunError(f"{task.name} has {count} options, but `labels: {labels}` has {len(words)} words")


def check_seeds(task: Task, pools: Sequence[Pool | None], config: RunConfig) -> None:
    """Raise `RunError` if the run's options select demonstrations that are the same for all of several seeds."""
    draws = any(pool is None or pool.seeds_differ for pool in pools) or any(map(depends_on_seed, config.labels))
    if config.select and len(config.seeds) > 1 and not draws and not is_sampled(task):
        raise RunError(
            f"{task.name}: --select {','.join(config.select)} selects the same demonstrations for every seed; give one "
            "seed, since several would count as several draws"
        )


def is_sampled(task: Task) -> bool:
    """Whether answers are drawn by the seed."""
    return task.definition.decode is not None and task.definition.decode.temperature > 0
