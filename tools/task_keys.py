"""Write docs/task-keys.md, the keys of task, suite and prompt files: `python -m tools.task_keys`.

Values and defaults come from the schema. The docstring of a model introduces its table, and the docstring of a field
says what the key means.
"""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, StrictFloat, StrictInt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from icl_eval.prompts.template import BLOCKS, DEFAULTS
from icl_eval.tasks.definition import Name, SuiteDefinition, TaskDefinition
from icl_eval.tasks.metric_names import MetricName

PAGE = Path(__file__).resolve().parent.parent / "docs" / "task-keys.md"
EXPLAINED = {
    "data": "[Files](tasks.md#files)",
    "data.hub": "[Data on the Hub](tasks.md#data-on-the-hub)",
    "splits": "[Splits](tasks.md#splits)",
    "gold": "[Fields and gold](tasks.md#fields-and-gold)",
    "by": "[Scores by category](tasks.md#scores-by-category)",
    "decode": "[Kinds of answers](tasks.md#kinds-of-answers)",
    "extract": "[Extraction](tasks.md#extraction)",
    "protocol": "[Draws](tasks.md#draws)",
    "score": "[Normalisations](results.md#normalisations)",
}
"""The section that explains the keys of a mapping."""
WORDS: list[tuple[object, str]] = [
    (Name, "name"),
    (MetricName, "metric"),
    (str, "text"),
    (bool, "`true`, `false`"),
    (StrictFloat | StrictInt, "number"),
    (int, "integer"),
]
SIGNS = {"ge": "≥", "gt": ">", "le": "≤"}
HEAD = """\
# Keys of task files

The tables on this page are generated from the schema. [Writing a task](tasks.md) and [Writing a prompt](prompts.md)
explain the keys by examples. An unknown key is an error, which names the nearest key.

## Task files
"""


def page() -> str:
    """The whole page."""
    mappings = (f"\n### `{path}`\n\n{_about(model, path)}" for path, model in nested(TaskDefinition))
    prompts = [
        [f"`{name}`", f"`{json.dumps(DEFAULTS[name])}`" if name in DEFAULTS else "", BLOCKS[name]] for name in BLOCKS
    ]
    return "".join(
        [
            f"{HEAD}\n{_about(TaskDefinition)}",
            *mappings,
            f"\n## Suite files\n\n{_about(SuiteDefinition)}",
            "\n## Prompt files\n\nA prompt is one Jinja file below `prompts`. It has these blocks.\n\n",
            _table(["block", "default", "meaning"], prompts),
        ]
    )


def nested(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The mappings in a mapping, each with its path of keys."""
    for name, hint in get_type_hints(model).items():
        for inner in _models(hint) if name in model.model_fields else ():
            yield f"{above}{name}", inner
            yield from nested(inner, f"{above}{name}.")


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """The docstring of each field that has one."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, after in pairwise(body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                found[name] = text
    return found


def _about(model: type[BaseModel], path: str = "") -> str:
    """The docstring of a mapping, a link to what explains it, and the table of its keys."""
    more = f"See {EXPLAINED[path]}.\n\n" if path in EXPLAINED else ""
    hints, described = get_type_hints(model, include_extras=True), meanings(model)
    rows = [
        [f"`{name}`", _word(hints[name], f"{path}.{name}".lstrip(".")), _default(field), described[name]]
        for name, field in model.model_fields.items()
    ]
    return f"{inspect.getdoc(model)}\n\n{more}{_table(['key', 'value', 'default', 'meaning'], rows)}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([*row[:-1], row[-1].rstrip(".")] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _word(hint: Any, path: str, many: str = "") -> str:
    """A type in words, or in the plural with `many="s"`; a mapping with keys of its own links to their table."""
    named = next((word for kind, word in WORDS if kind == hint), None)
    if named is not None:
        return f"{named}{many}"
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part not in (type(None), ...)]
    if origin is Annotated:
        limits = [limit for each in parts[1:] if isinstance(each, FieldInfo) for limit in each.metadata]
        bounds = [f"{SIGNS[name]} {getattr(limit, name)}" for name in SIGNS for limit in limits if hasattr(limit, name)]
        return f"{_word(parts[0], path, many)} {' and '.join(bounds)}".strip()
    if origin is Literal:
        return ", ".join(f"`{json.dumps(part) if isinstance(part, bool) else part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_word(part, path, many) for part in parts))
    if origin in (list, tuple):
        return f"list{many} of {_word(parts[0], path, 's')}"
    if origin is dict:
        return f"mapping{many} of {_word(parts[0], path, 's')} to {_word(parts[1], path, 's')}"
    return f"[mapping{many}](#{path.replace('.', '')})"


def _default(field: FieldInfo) -> str:
    """The default of a key; empty where its meaning says what happens without it."""
    if field.is_required():
        return "required"
    if field.default in (None, "", {}, PydanticUndefined) or isinstance(field.default, BaseModel):
        return ""
    return f"`{field.default if isinstance(field.default, str) else json.dumps(field.default)}`"


def _models(hint: Any) -> Iterator[type[BaseModel]]:
    """The mappings with keys of their own that a type holds."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for part in get_args(hint):
        yield from _models(part)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
