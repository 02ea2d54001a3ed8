"""One question of a run, without asking it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icl_eval.config import RunConfig, place_of
from icl_eval.errors import UnknownName
from icl_eval.models import LanguageModel, about_control_tokens, load_model
from icl_eval.results.records import Cell
from icl_eval.runs.cells import prepare
from icl_eval.runs.data import source_of
from icl_eval.runs.questions import EncodedQuery, RequestBuilder
from icl_eval.tasks import Task, ids_of


def preview(
    task: Task,
    model: str,
    data: str | Path,
    *,
    shots: int,
    style: str | None = None,
    id: str | None = None,
    split: str | None = None,
    demonstrations: str | None = None,
    seed: int = 0,
    **model_options: Any,
) -> tuple[EncodedQuery, LanguageModel, str]:
    """The question that a run would ask, the model whose tokenizer made it, and a note on its control tokens, if any.

    `load_model` gets the other options.

    Raises:
        UnknownName: the task has no such prompt or example.
        IclEvalError: the data or the model cannot be read.
    """
    ask = RunConfig(
        model=model,
        tasks=(task.name,),
        shots=(shots,),
        seeds=(seed,),
        data=place_of(data),
        split=split,
        demonstrations=demonstrations,
    )
    (prepared,) = prepare(task, style, ask, source_of(ask.data, unused=task.source is not None))
    ids = ids_of(prepared.examples)
    if id is not None and id not in ids:
        raise UnknownName(f"example of {task.name}", id, ids, otherwise=f"the first is {ids[0]}")
    example = prepared.examples[0 if id is None else ids.index(id)]
    lm = load_model(model, **model_options)
    drawn = prepared.pool.draw(example, shots, seed) if prepared.pool else []
    cell = Cell(task.name, prepared.prompt.style, shots, seed)
    questioner = RequestBuilder(prepared, lm, "drop")
    question = questioner.ask(cell, example, drawn)
    return question, lm, about_control_tokens(questioner.control_names)
