"""Import of JSON tasks of BIG-bench (Srivastava et al. 2022) as a task file, a prompt and a copy of the records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_eval.errors import TaskError
from icl_eval.importing.folder import Imported, write_task
from icl_eval.importing.lm_eval_scoring import Notes, Parts, literal
from icl_eval.tasks.files import parse_json
from icl_eval.tasks.located import first_problem

PREFIX = "bigbench/"
METRICS = {
    "multiple_choice_grade": "multiple_choice_grade",
    "exact_str_match": "exact_match",
    "bleu": "bleu",
    "rouge": "rougeL",
}
PARTS = {  # keys of the parts of a prompt, with their defaults
    "task_prefix": "",
    "example_input_prefix": "\nQ: ",
    "example_output_prefix": "\nA: ",
    "choice_prefix": "\n  choice: ",
    "few_shot_example_separator": "\n",
}
CARRIED = (
    *PARTS,
    "examples",
    "name",
    "description",
    "metrics",
    "preferred_score",
    "append_choices_to_input",
    "stop_string",
)


class _Example(BaseModel):
    model_config = ConfigDict(strict=True)

    input: str = ""
    target_scores: Annotated[dict[str, float], Field(min_length=1)] | None = None


class _Keys(BaseModel):
    """The types of the values that are read."""

    model_config = ConfigDict(strict=True)

    task_prefix: str = ""
    example_input_prefix: str = ""
    example_output_prefix: str = ""
    choice_prefix: str = ""
    few_shot_example_separator: str = ""
    description: str = ""
    metrics: list[str] = []
    preferred_score: str = ""
    append_choices_to_input: bool = True
    stop_string: str | None = None
    generative_stop: str | None = None
    examples: list[_Example]


def import_bigbench(path: Path, out: Path) -> Imported:
    """Convert a BIG-bench file and write the task into a folder.

    Raises:
        TaskError: the file is not a JSON task, or cannot be expressed as a task file.
        IclEvalError: the folder cannot be written, or the task is not valid.
    """
    content = _read(path)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(content.get("name") or path.stem)).strip("._-") or "task"
    examples, notes = content["examples"], Notes()
    is_choice = "target_scores" in examples[0]
    texts = {key: str(content.get(key, default)) for key, default in PARTS.items()}
    definition: dict[str, Any] = {
        "task": f"{PREFIX}{name}",
        "about": str(content.get("description", "")) or f"BIG-bench: {name}.",
        "data": {"local": {"all": f"{PREFIX}{name}.json"}, "records": "examples"},
        "splits": {"demonstrations": "all", "evaluation": "all"},
    }
    prompt = {"query": _query(content, texts, is_choice), "answer": "{{ option }}"}
    prompt["separator"] = literal(texts["few_shot_example_separator"])
    if texts["task_prefix"]:
        prompt["instruction"] = literal(texts["task_prefix"])
        notes.changed.append("`few_shot_example_separator` also follows `task_prefix`")
    if is_choice:
        fields = {"input": "input", "target_scores": "target_scores"}
        definition |= {"fields": fields, "gold": {"field": "target_scores"}, "options": "target_scores"}
        definition["score"] = {"normalization": "sum"}
        notes.changed.append("choices keep their order instead of a random one")
    else:
        stop = content.get("stop_string") or content.get("generative_stop") or "\n"
        definition |= {"answer": "text", "references": "target", "decode": {"max_tokens": 64, "stop": [stop]}}
    definition |= {
        "prompts": ["bigbench"],
        "protocol": {"shots": 0},
        "metrics": _metrics(content, is_choice, notes, path),
    }
    notes.carried += [key for key in CARRIED if key in content]
    notes.lost += [f"`{key}`" for key in content if key not in (*CARRIED, "keywords", "canary", "comment")]
    copied = {out / "data" / PREFIX / f"{name}.json": path.read_text(encoding="utf-8")}
    task = write_task(out, Parts(definition, prompt, notes), path, others=copied)
    return Imported(task.name, "whole", notes)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskError(f"this file cannot be read as JSON: {error}", path) from error
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list) or not examples or not all(isinstance(each, dict) for each in examples):
        raise TaskError(
            "a JSON task of BIG-bench must have a list `examples`; for a task with subtasks, import each subtask", path
        )
    try:
        _Keys.model_validate(content)
    except ValidationError as error:
        raise TaskError(first_problem(error), path) from error
    kinds = {("target_scores" in each, "target" in each and "target_scores" not in each) for each in examples}
    if kinds not in ({(True, False)}, {(False, True)}):
        raise TaskError("all examples must have `target_scores`, or all must have a `target`", path)
    found: dict[str, Any] = content
    return found


def _query(content: Mapping[str, Any], texts: Mapping[str, str], is_choice: bool) -> str:
    """The block `query`: the input, the choices if they are shown, and the prefix of the answer."""
    choices = ""
    if is_choice and content.get("append_choices_to_input", True):
        prefix = json.dumps(texts["choice_prefix"], ensure_ascii=False)
        choices = f"{{% for choice in options %}}{{{{ {prefix} ~ choice }}}}{{% endfor %}}"
    return f"{literal(texts['example_input_prefix'])}{{{{ input }}}}{choices}{literal(texts['example_output_prefix'])}"


def _metrics(content: Mapping[str, Any], is_choice: bool, notes: Notes, path: Path) -> list[str]:
    """The metrics that fit the examples, the preferred one first."""
    names = list(dict.fromkeys([content.get("preferred_score"), *content.get("metrics", [])]))
    known = [str(name) for name in names if name in METRICS and (name == "multiple_choice_grade") == is_choice]
    notes.lost += [f"the metric {name}" for name in names if name and name not in known]
    if not any(names):
        raise TaskError("this task has no metrics", path)
    if not known:
        given = ", ".join(str(each) for each in names if each) or "the file has neither `metrics` nor `preferred_score`"
        raise TaskError(f"none of its metrics can be expressed: {given}", path)
    return [METRICS[name] for name in known]
