"""`icl-eval examples`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import Coloured, remark, write
from icl_eval.config import EVALUATION, RESULTS, Option
from icl_eval.errors import RunError, UnknownName, counted

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.outcomes import Outcome
    from icl_eval.results.prompt_texts import PromptTexts

DEFAULT_LIMIT = 10  # examples
MAX_TEXT = 300  # characters of a text that are printed
Sort = Literal["margin", "loss"]
SHADES = {True: "green", False: "red", None: ""}
WORDS = {True: "right", False: "wrong", None: "not judged alone"}


@options.takes()
def examples(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    *,
    wrong: Annotated[bool, Option("Only examples that were answered wrongly.", RESULTS)] = False,
    right: Annotated[bool, Option("Only examples that were answered correctly.", RESULTS)] = False,
    flips: Annotated[
        Path | None,
        Option(
            "Only examples that are right in this other run and wrong in RUN, matched by task, shots, seed and id.",
            RESULTS,
            "OTHER",
        ),
    ] = None,
    sort: Annotated[Sort | None, Option("Print the smallest margin or the largest loss first.", RESULTS)] = None,
    prompt: Annotated[bool, Option("Print the exact prompt of each example.", RESULTS)] = False,
    limit: Annotated[int, Option("Print the first N examples; 0 prints all.", RESULTS, "N", minimum=0)] = DEFAULT_LIMIT,
    as_json: Annotated[bool, Option("Print one JSON object per line.", RESULTS, flags=("--json",))] = False,
    task: Annotated[
        list[str] | None,
        Option("Only these tasks.", EVALUATION, "NAME,...", flags=("--task", "-t")),
    ] = None,
    shots: Annotated[str | None, Option("Only these numbers of demonstrations.", EVALUATION, "N,...")] = None,
    seed: Annotated[str | None, Option("Only these draws.", EVALUATION, "N,...")] = None,
    id: Annotated[list[str] | None, Option("Only this example; may be repeated.", EVALUATION, "ID")] = None,
) -> None:
    """Print examples of a finished run, with their scores.

    The margin is the score of the best right option minus that of the best wrong option, in nats. No model is loaded.
    """
    from icl_eval.results.manifest import read_finished
    from icl_eval.results.outcomes import flips as flipped
    from icl_eval.results.outcomes import outcomes
    from icl_eval.results.prompt_texts import PromptTexts

    if wrong and right:
        raise RunError("give either --wrong or --right, not both")
    manifest = read_finished(folder)
    wanted = _Selection.of(manifest, options.words(task), _listed(shots, "--shots"), _listed(seed, "--seed"), id or [])
    found = [each for each in outcomes(folder, manifest) if wanted.takes(each)]
    wanted.check_ids(found)
    if flips is not None:
        found = flipped(found, outcomes(flips, read_finished(flips)), flips)
    found = [each for each in found if not (wrong and each.correct is not False) and not (right and not each.correct)]
    found = _sorted(found, sort)
    shown = found[: limit or None]
    texts = PromptTexts(folder) if prompt else None
    for each in shown:
        for line in [[_json(each, texts)]] if as_json else _lines(each, texts):
            write(*line)
    more = "; --limit 0 prints all" if len(shown) < len(found) else ""
    remark(f"{len(shown)} of {counted(len(found), 'example')}{more}")


def _listed(value: str | None, option: str) -> list[int]:
    found = [] if value is None else options.numbers(value, option)
    return [found] if isinstance(found, int) else found


@dataclass(frozen=True)
class _Selection:
    """The selected tasks, shots, seeds and ids; an empty tuple selects all."""

    tasks: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    ids: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest, tasks: list[str], shots: list[int], seeds: list[int], ids: list[str]) -> _Selection:
        """A selection of examples of a run.

        Raises:
            UnknownName: the run does not have this task, number of shots or seed.
        """
        cells = [cell for record in manifest.tasks for cell in record.cells]
        given: tuple[tuple[str, Sequence[Any], set[Any]], ...] = (
            ("task of this run", tasks, {cell.task for cell in cells}),
            ("number of shots of this run", shots, {cell.shots for cell in cells}),
            ("seed of this run", seeds, {cell.seed for cell in cells}),
        )
        for what, values, known in given:
            for value in values:
                if value not in known:
                    raise UnknownName(what, str(value), list(map(str, sorted(known))))
        return cls(tuple(tasks), tuple(shots), tuple(seeds), tuple(ids))

    def takes(self, outcome: Outcome) -> bool:
        """Whether an example is selected."""
        task, shots, seed, id = outcome.key
        chosen = ((self.tasks, task), (self.shots, shots), (self.seeds, seed), (self.ids, id))
        return all(not values or value in values for values, value in chosen)

    def check_ids(self, found: Sequence[Outcome]) -> None:
        """Raise `RunError` if no selected example has one of the ids."""
        for id in {*self.ids} - {each.example.id for each in found}:
            raise RunError(f"the run has no example with the id {id!r} among the selected ones")


def _sorted(found: list[Outcome], sort: Sort | None) -> list[Outcome]:
    if sort == "loss":
        return sorted(found, key=lambda each: -each.loss)
    if sort == "margin":
        return sorted(found, key=lambda each: math.inf if each.margin is None else each.margin)
    return found


def _json(outcome: Outcome, texts: PromptTexts | None) -> str:
    """An example as a JSON object, with its prompt if there are texts. Infinite numbers and NaN are null."""
    row = {**outcome.row(), **({"prompt_text": texts.prompt(outcome.example, _option(outcome))} if texts else {})}
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(finite, ensure_ascii=False)


def _lines(outcome: Outcome, texts: PromptTexts | None) -> Iterator[Sequence[str | Coloured]]:
    """Lines for an example: cell, id and scores, its prompt if there are texts, and its options or generated texts."""
    example = outcome.example
    margin = "" if outcome.margin is None else f", margin {outcome.margin:.3f}"
    value = "" if outcome.value is None else f", score {outcome.value:.3f}"
    yield [
        f"{example.cell}, example {example.id}: ",
        Coloured(WORDS[outcome.correct], SHADES[outcome.correct]),
        f"{value}{margin}, loss {outcome.loss:.3f}",
    ]
    if texts is not None:
        if example.truncated:
            yield [f"note: the first {example.truncated} tokens of the query are not part of the prompt"]
        yield [texts.prompt(example, _option(outcome))]
    for index, option in enumerate(outcome.options):
        gold, chosen = "*" if option.is_gold else " ", "  chosen" if index == outcome.chosen else ""
        score, probability = (values[outcome.normalization] for values in (option.scores, option.probabilities))
        yield [f"  {gold} {probability:5.3f}  {score:9.3f}  {_short(option.name)}{chosen}"]
    for text in outcome.texts:
        yield [f"    {_short(text.text)!r}  ({text.finished})"]
        for name, answer in text.extracted.items():
            yield [f"    {name}: {'nothing' if answer is None else repr(_short(answer))}"]
    if outcome.texts:
        yield [f"  * {', '.join(repr(_short(each)) for each in outcome.gold)}"]
    yield [""]


def _option(outcome: Outcome) -> int:
    """The index of the option whose prompt is printed: the first right option, as in `show`."""
    return next((index for index, option in enumerate(outcome.options) if option.is_gold), 0)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text):,} characters)"
