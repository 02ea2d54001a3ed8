"""One query of a run, encoded but not run."""

from __future__ import annotations

from typing import Unpack

from icl_eval.config import RunOptions
from icl_eval.errors import UnknownName
from icl_eval.models import LanguageModel, about_control_tokens, load
from icl_eval.results.records import Cell
from icl_eval.results.run_config import read_run
from icl_eval.runs.cells import prepare
from icl_eval.runs.data import source_of
from icl_eval.runs.questions import EncodedQuery, RequestBuilder
from icl_eval.tasks import Task, ids_of


def preview(
    task: Task, model: str, *, id: str | None = None, **options: Unpack[RunOptions]
) -> tuple[EncodedQuery, LanguageModel, str]:
    """A query of a run, the model whose tokenizer encoded it, and a note on control tokens in it, if there are any.

    Args:
        task: the task.
        model: name of the model.
        id: of the example; the first one by default.
        options: those of `evaluate`; of shots, seeds and prompts the first is used.

    Raises:
        UnknownName: the task has no such prompt or example.
        IclEvalError: the data or the model cannot be read.
    """
    config, load_config = read_run(model, [task.name], options)
    source = source_of(config.data, unused=task.source is not None)
    prepared = prepare(task, config.prompts[0] if config.prompts else None, config, source)[0]
    (shots, *_), seed = prepared.record.shots, config.seeds[0]
    ids = ids_of(prepared.examples)
    if id is not None and id not in ids:
        raise UnknownName(f"example of {task.name}", id, ids, otherwise=f"the first is {ids[0]}")
    example = prepared.examples[0 if id is None else ids.index(id)]
    lm = load(model, config, load_config)
    drawn = prepared.pool.draw(example, shots, seed) if prepared.pool else []
    cell = Cell(task.name, prepared.prompt.style, shots, seed)
    builder = RequestBuilder(prepared, lm, config.overflow)
    query = builder.ask(cell, example, drawn)
    return query, lm, about_control_tokens(builder.control_names)
