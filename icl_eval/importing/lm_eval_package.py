"""Use of the package lm_eval: freeze the records that Python code of tasks makes, and compare prompts."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from itertools import islice
from typing import Any

from icl_eval.errors import counted
from icl_eval.importing.lm_eval_config import Config, PythonCode
from icl_eval.importing.lm_eval_scoring import UNUSED, Parts, common_parts, file_name, is_template, literal, own_name
from icl_eval.prompts import assemble
from icl_eval.tasks import MemorySource, Source, Task
from icl_eval.tasks.data import Data
from icl_eval.tasks.files import Record

COMPARED = 50  # number of compared prompts
EXCERPT = 30  # characters of a difference in a report
Records = Mapping[str, Sequence[Record]]  # by split


def is_installed() -> bool:
    """Whether lm_eval can be imported."""
    return importlib.util.find_spec("lm_eval") is not None


def raw_records(data: Data, splits: Sequence[str], source: Source, most: int | None = None) -> Records:
    """The first `most` records of splits, as they are in the data set; None for all."""
    return {
        split: [dict(each) for each in islice(source.records(data, split), most)] for split in dict.fromkeys(splits)
    }


def package_task(config: Config, records: Records | None) -> Any:
    """Load the task with lm_eval.

    Args:
        config: the YAML file; loading its functions runs their code.
        records: records that replace its data set; None for the data set itself.

    Raises:
        TaskError: lm_eval or the code of the task fails.
    """
    import datasets
    from lm_eval.api.task import ConfigurableTask, TaskConfig

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    known = {each.name for each in fields_of(TaskConfig)}
    dropped = {"metric_list", "process_results", "filter_list", *UNUSED} - {"metadata"}
    keys = {key: _loaded(value) for key, value in config.keys.items() if key in known - dropped}
    if records is not None and "custom_dataset" not in keys:
        made = {split: datasets.Dataset.from_list([dict(each) for each in rows]) for split, rows in records.items()}
        keys["custom_dataset"] = lambda **_: datasets.DatasetDict(made)
    try:
        return ConfigurableTask(config=keys)
    except Exception as error:
        raise config.error("task", f"lm_eval cannot load this task: {_summary(error)}") from error


def frozen_parts(config: Config, source: Source, data: Data) -> tuple[Parts, Records]:
    """Convert a task with Python code, whose results for each record are stored as the records of the task.

    Raises:
        TaskError: the code fails, or a key has no counterpart.
        DataError: the records cannot be read.
    """
    parts = common_parts(config)
    if config.get("gen_prefix"):
        raise config.error("gen_prefix", "`gen_prefix` together with Python code has no counterpart")
    if config.get("fewshot_config", {}).get("samples") is not None:
        parts.definition["splits"]["demonstrations"] = "fewshot"
    records = None if config.get("custom_dataset") else raw_records(data, [*data.local], source)
    task = package_task(config, records)
    try:
        frozen = _frozen(task, parts)
    except Exception as error:
        raise config.error("task", f"the code of this task fails: {_summary(error)}") from error
    first = next(iter(frozen.values()))[0]
    local = {split: f"{own_name(config)}/{file_name(split)}.jsonl" for split in frozen}
    parts.definition["data"] = {"local": local}
    parts.definition["id"] = "id"
    description = str(config.get("description", ""))
    separator = str(config.get("fewshot_delimiter", "\n\n"))
    if is_template(description):
        parts.prompt["instruction"] = "{{ description }}"
    elif description:
        parts.prompt["instruction"] = literal(description.removesuffix(separator))
        if not description.endswith(separator):
            parts.notes.changed.append("the description is followed by the separator")
    delimiter = literal(config.get("target_delimiter", " "))
    parts.prompt["query"] = "{{ query }}"
    if "ending" in first:
        parts.definition.update({"options": "contexts", "gold": {"field": "gold"}})
        parts.prompt.update({"query": "{{ option }}", "answer": delimiter + "{{ ending }}"})
    elif parts.definition["answer"] == "choice":
        parts.definition.update({"options": "choices", "gold": {"field": "gold"}})
    else:
        parts.definition["references"] = "references"
        if parts.definition["answer"] == "likelihood":
            parts.prompt["demonstration"] = "{{ query }}" + delimiter + "{{ option }}"
    return parts, frozen


def _frozen(task: Any, parts: Parts) -> dict[str, list[Record]]:
    """The rendered records of the splits of a task of lm_eval."""
    splits, kind = parts.definition["splits"], parts.definition["answer"]
    made = {splits["evaluation"]: [_record(task, doc, n, kind, None) for n, doc in enumerate(task.eval_docs)]}
    if splits["demonstrations"] not in made:
        demonstrations = enumerate(task.fewshot_docs() or [])
        made[splits["demonstrations"]] = [_record(task, doc, n, kind, task.fewshot_cfg) for n, doc in demonstrations]
    return made


def _record(task: Any, doc: Mapping[str, Any], number: int, kind: str, fewshot: Any) -> Record:
    """The record of a document, with the texts that prompts need."""
    query = task.doc_to_text(doc, fewshot and fewshot.doc_to_text)
    target = task.doc_to_target(doc, fewshot and fewshot.doc_to_target)
    record: dict[str, Any] = {"id": str(number), "query": query}
    description = task.config.description
    if isinstance(description, str) and is_template(description):
        separator = task.config.fewshot_delimiter
        record["description"] = task.resolve_field(doc, description).removesuffix(separator)
    if kind != "choice":
        record["references"] = [str(each) for each in target] if isinstance(target, list) else [str(target)]
        return record
    choices = [str(each) for each in task.doc_to_choice(doc, fewshot and fewshot.doc_to_choice)]
    if isinstance(query, int):  # options are contexts, which are followed by the target
        return {"id": str(number), "contexts": choices, "ending": str(target), "gold": query}
    record["choices"] = choices
    gold = choices.index(target) if isinstance(target, str) else target
    record["gold"] = int(gold) if isinstance(gold, bool) else gold
    return record


def compared(config: Config, task: Task, records: Records, frozen: Records | None = None) -> str:
    """A sentence that says whether the first prompts equal those of lm_eval.

    Args:
        config: the YAML file.
        task: the imported task.
        records: the first records of the data set by split.
        frozen: the first records of the task, if they are frozen.
    """
    theirs = package_task(config, records)
    own = replace(task, source=MemorySource(frozen or records), _loaded={})
    splits, shots = task.definition.splits, config.get("num_fewshot", 0)
    is_fixed = splits.demonstrations is None
    pool = min(len(theirs.fewshot_docs() or []), COMPARED)
    numbers = [shots] if is_fixed else sorted({0, min(shots or 2, pool)})
    docs = list(islice(theirs.eval_docs, COMPARED))
    for number in numbers:
        pairs = zip(_their_prompts(theirs, docs, number), _own_prompts(own, 0 if is_fixed else number), strict=True)
        differing = [pair for pair in pairs if pair[0] != pair[1]]
        if differing:
            with_shots = counted(number, "demonstration")
            prompts = f"{len(differing)} of the first {len(docs)} prompts with {with_shots} differ"
            return f"{prompts}; {_difference(*differing[0])}"
    return (
        f"the first {len(docs)} prompts equal those of lm_eval, with {' and '.join(map(str, numbers))} demonstrations"
    )


def _their_prompts(task: Any, docs: Sequence[Any], shots: int) -> Iterator[list[str]]:
    """The texts of the requests of lm_eval for each document."""

    demonstrations = list(islice(task.fewshot_docs() or [], shots))

    class First:
        def sample(self, n: int, eval_doc: Any = None) -> list[Any]:
            del eval_doc
            return demonstrations[:n]

    task.sampler = First()
    kind = task.OUTPUT_TYPE
    for doc in docs:
        context = task.fewshot_context(doc, shots, gen_prefix=task.resolve_field(doc, task.config.gen_prefix))
        if kind == "generate_until":
            yield [context]
        elif kind == "loglikelihood_rolling":
            yield [str(task.doc_to_target(doc))]
        elif kind == "loglikelihood":
            yield [context + str(task.doc_to_target(doc))]
        elif isinstance(context, list):
            yield [each + task.config.target_delimiter + str(task.doc_to_target(doc)) for each in context]
        else:
            yield [context + task.config.target_delimiter + str(each) for each in task.doc_to_choice(doc)]


def _own_prompts(task: Task, shots: int) -> Iterator[list[str]]:
    """The texts of the requests of the imported task for each example."""
    source, prompt, is_choice = MemorySource({}), task.prompt(), task.definition.answer == "choice"
    demonstrations = [
        prompt.demonstration(each.fields, each.options, each.gold[0])
        for each in (islice(task.demonstrations(source), shots) if shots else ())
    ]
    for example in islice(task.evaluation(source), COMPARED):
        options = example.options if is_choice else example.options[:1]
        text = assemble(prompt, example.fields, options, demonstrations)
        if task.definition.answer == "text":
            yield [text.context(0)]
        else:
            yield [text.context(index) + answer for index, answer in enumerate(text.answers)]


def _difference(theirs: Sequence[str], own: Sequence[str]) -> str:
    """A description of the first difference between two prompts."""
    if len(theirs) != len(own):
        return f"lm_eval has {len(theirs)} options, but this task has {len(own)}"
    one, other = next((a, b) for a, b in zip(theirs, own, strict=True) if a != b)
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    near = slice(max(at - EXCERPT // 2, 0), at + EXCERPT)
    return f"after {at} characters, lm_eval has {one[near]!r}, but this task has {other[near]!r}"


def _loaded(value: Any) -> Any:
    """A value of a YAML file with its functions loaded."""
    if isinstance(value, PythonCode):
        return value.loaded()
    if isinstance(value, Mapping):
        return {key: _loaded(each) for key, each in value.items()}
    return [_loaded(each) for each in value] if isinstance(value, list) else value


def _summary(error: BaseException) -> str:
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message}"
