from __future__ import annotations

import re
from typing import Any

import pytest

from icl_eval.prompts import Prompt
from icl_eval.prompts.template import BLOCKS
from icl_eval.tasks.definition import SuiteDefinition, TaskDefinition
from tools.task_keys import PAGE, page

MODELS = {
    **TaskDefinition.model_json_schema().pop("$defs"),
    "TaskDefinition": TaskDefinition.model_json_schema(),
    "SuiteDefinition": SuiteDefinition.model_json_schema(),
}


def _rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]


def _values(schema: Any) -> list[Any]:
    """The values that a JSON schema lists or bounds."""
    if isinstance(schema, list):
        return [value for each in schema for value in _values(each)]
    if not isinstance(schema, dict):
        return []
    values = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
    values += [schema[key] for key in ("minimum", "maximum", "exclusiveMinimum") if key in schema]
    return values + [value for each in schema.values() for value in _values(each)]


def test_the_page_of_keys_is_what_the_schema_says() -> None:
    assert page() == PAGE.read_text(encoding="utf-8"), "run `python -m tools.task_keys`"


@pytest.mark.parametrize("model", MODELS)
def test_every_key_of_the_schema_has_a_row_with_its_values_and_a_meaning(model: str) -> None:
    properties = MODELS[model]["properties"]
    (table,) = [t for t in page().split("\n\n") if [row[0] for row in _rows(t)] == [f"`{key}`" for key in properties]]

    for (_, value, default, *meaning), schema in zip(_rows(table), properties.values(), strict=True):
        assert [v for v in _values(schema) if not re.search(rf"\b{str(v).lower()}\b", value)] == []
        assert "default" in schema or default == "required"
        assert re.fullmatch(r"[A-Z].*[^.]\S*", " | ".join(meaning))


def test_every_block_of_a_prompt_file_has_a_row() -> None:
    prompts = page().split("## Prompt files")[1]

    assert [row[0] for row in _rows(prompts)] == [f"`{name}`" for name in BLOCKS]
    assert Prompt(
        "{% block query %}a{% endblock %}"
        + "".join(f"{{% block {n} %}}b{{% endblock %}}" for n in BLOCKS if n != "query")
    )
