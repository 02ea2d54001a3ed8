"""Conversion of the data and the question of declarative tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
from jinja2 import meta, nodes

from icl_eval.importing.lm_eval_config import Config
from icl_eval.importing.lm_eval_scoring import (
    BEFORE,
    Parts,
    common_parts,
    file_name,
    is_template,
    literal,
    metric_list,
    own_name,
)
from icl_eval.prompts import sandbox

FEWSHOT = ("sampler", "split", "samples")  # the keys of `fewshot_config` that have a counterpart
RESERVED = {"option", "options", "index", "letters"}  # names in templates of prompts besides the fields


def declared_parts(config: Config) -> Parts:
    """Convert a task whose question is defined by templates.

    Raises, with file and line:
        TaskError: a key cannot be expressed in a task file.
    """
    parts = common_parts(config)
    definition, prompt = parts.definition, parts.prompt
    definition["data"] = data_of(config)
    query, description = _template(config, "doc_to_text"), config.get("description", "")
    for key in config.get("fewshot_config", {}):
        if key not in FEWSHOT:
            raise config.error(
                "fewshot_config", f"`fewshot_config.{key}` has no counterpart; {', '.join(FEWSHOT)} have"
            )
    texts = {key: config.keys.get(key) for key in ("doc_to_text", "description", "doc_to_choice", "doc_to_target")}
    names = {key: _names(config, key, text) for key, text in texts.items() if isinstance(text, str)}
    query = "" if config.get("output_type") == "loglikelihood_rolling" else query
    prefix = config.get("gen_prefix", "")
    if prefix or (names.get("doc_to_text", set()) | names.get("description", set())) & RESERVED:
        definition["fields"] = {"query": query or "{{ '' }}", "description": description or "{{ '' }}"}
        query, description = "{{ query }}", "{{ description }}" if description else ""
    fixed = _fixed_demonstrations(config, parts)
    if prefix:
        query = _with_prefix(config, parts, query, prefix)
    _add_instruction(config, parts, query, description, fixed)
    if definition["answer"] == "choice":
        _add_options(config, parts)
    else:
        _add_references(config, parts)
    definition["prompts"] = ["lm-eval"]
    prompt["query"] = prompt.pop("query")
    return parts


def _with_prefix(config: Config, parts: Parts, query: str, prefix: str) -> str:
    """The query followed by the beginning of the answer, which demonstrations have, too."""
    if is_template(prefix):
        raise config.error("gen_prefix", "`gen_prefix` is a template, which has no counterpart")
    delimiter = literal(config.get("target_delimiter", " "))
    if prefix[0].isspace() or not delimiter:
        begun = f"{query}{literal(prefix)}"
    else:
        begun = f"{query}{{% if query and query == query.rstrip() %}}{delimiter}{{% endif %}}{literal(prefix)}"
    space = "" if prefix[-1].isspace() else "{% if option == option.lstrip() %} {% endif %}"
    parts.prompt["demonstration"] = f"{begun}{space}{{{{ option }}}}"
    return begun


def _template(config: Config, key: str) -> str:
    """The value of a key as a template; the name of a column becomes a template of this column."""
    value = config.get(key, "")
    if isinstance(value, bool | int):
        return f"{{{{ {value} }}}}"
    if not isinstance(value, str):
        raise config.error(key, f"`{key}` is a {type(value).__name__}, not a template or a column")
    return f"{{{{ {value} }}}}" if re.fullmatch(r"[A-Za-z_]\w*", value) else value


def _names(config: Config, key: str, source: str) -> set[str]:
    """The names of the columns in a template.

    Raises:
        TaskError: the sandbox rejects the template, so lm_eval may not run it to compare prompts either.
    """
    try:
        tree = sandbox.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise config.error(key, f"`{key}` is a template that the sandbox rejects: {error.message}") from error
    named = [node.attr for node in tree.find_all(nodes.Getattr)]
    named += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    if hidden := next((name for name in named if name.startswith("__")), None):
        raise config.error(key, f"`{key}` is a template that the sandbox rejects: it reads {hidden!r}")
    return meta.find_undeclared_variables(tree)


def _expression(source: str) -> str | None:
    """The expression in a template that is a single expression; None for other templates."""
    found = re.fullmatch(r"\s*\{\{-?(.*?)-?\}\}\s*", source, re.DOTALL)
    return found[1].strip() if found and "}}" not in found[1] and "{{" not in found[1] else None


def data_of(config: Config) -> dict[str, Any]:
    """The key `data`: the records on the Hub, or in files below `--data-dir`."""
    splits = {config.get(key) for key in ("training_split", "validation_split", "test_split", "fewshot_split")} - {None}
    local = {str(split): f"{own_name(config)}/{file_name(split)}.jsonl" for split in sorted(splits)}
    if config.get("custom_dataset") is not None:
        return {"local": local}
    path, kwargs = config.get("dataset_path"), dict(config.get("dataset_kwargs", {}))
    for unused in ("trust_remote_code", "streaming"):
        kwargs.pop(unused, None)
    if path in ("json", "csv", "parquet", "text") and kwargs.get("data_files"):
        files = kwargs["data_files"]
        files = (
            files if isinstance(files, dict) else {config.get("test_split") or config.get("validation_split"): files}
        )
        if remote := next((each for each in files.values() if "://" in str(each)), None):
            raise config.error(
                "dataset_kwargs", f"the records are downloaded from {remote}; save them and use the name of the file"
            )
        form = {"json": {}, "text": {"format": "lines"}}.get(path, {"format": path})
        return {"local": {str(split): name for split, name in files.items()}, **form}
    if unknown := sorted(set(kwargs) - {"revision"}):
        raise config.error("dataset_kwargs", f"`dataset_kwargs.{unknown[0]}` has no counterpart")
    if not isinstance(path, str) or path.count("/") != 1:
        raise config.error(
            "dataset_path", f"`dataset_path: {path}` is not the name of a data set on the Hub (owner/name)"
        )
    hub = {"path": path, "name": config.get("dataset_name"), "revision": kwargs.get("revision")}
    return {"hub": {key: value for key, value in hub.items() if value is not None}, "local": local}


def _fixed_demonstrations(config: Config, parts: Parts) -> str:
    """The text of the demonstrations in the YAML file; empty if there are none."""
    samples, shots = config.get("fewshot_config", {}).get("samples"), parts.definition["protocol"]["shots"]
    if not isinstance(samples, list) or not shots:
        return ""
    if parts.definition["protocol"].get("draw") != "first":
        parts.notes.changed.append("the demonstrations of `fewshot_config.samples` keep their order")
    template = f"{_template(config, 'doc_to_text')}{literal(config.get('target_delimiter', ' '))}"
    template += _template(config, "doc_to_target")
    try:
        texts = [sandbox.render(sandbox.small(template), each, "doc_to_text") for each in samples[:shots]]
    except Exception as error:
        raise config.error("fewshot_config", f"`fewshot_config.samples` cannot be rendered: {error}") from error
    parts.definition["protocol"] = {"shots": 0}
    del parts.definition["splits"]["demonstrations"]
    return str(config.get("fewshot_delimiter", "\n\n")).join(texts)


def _add_instruction(config: Config, parts: Parts, query: str, description: str, fixed: str) -> None:
    """Add the blocks before the answer. In lm_eval, no separator follows the description."""
    separator = config.get("fewshot_delimiter", "\n\n")
    if fixed:
        parts.prompt["instruction"] = description + literal(fixed)
    elif description and description.endswith(separator) and description != separator:
        parts.prompt["instruction"] = description.removesuffix(separator)
    elif description and not parts.definition["protocol"]["shots"]:
        parts.prompt.setdefault("demonstration", query + parts.prompt["answer"])
        query = description + query
        parts.notes.changed.append("with demonstrations, the description follows them")
    elif description:
        parts.prompt["instruction"] = description
        parts.notes.changed.append("the description is followed by the separator")
    parts.prompt["query"] = query


def _add_options(config: Config, parts: Parts) -> None:
    """Add the options and the key `gold`."""
    choices = config.get("doc_to_choice")
    choices = list(choices.values()) if isinstance(choices, dict) else choices
    definition = parts.definition
    if isinstance(choices, list):
        definition["options"] = [literal(str(each)) for each in choices]
    elif not isinstance(choices, str):
        raise config.error("doc_to_choice", "`doc_to_choice` has no options")
    elif is_template(choices) and _expression(choices) is None:
        raise config.error("doc_to_choice", "`doc_to_choice` is a text that Python would have to evaluate")
    else:
        definition["options"] = choices
    if "fields" in definition and isinstance(choices, str):
        definition["fields"]["choices"], definition["options"] = choices, "choices"
    definition["gold"] = _gold(config, choices)


def _gold(config: Config, choices: list[Any] | str) -> dict[str, Any]:
    """The key `gold`: the right option is given by its index or its text."""
    target = config.get("doc_to_target")
    if isinstance(target, int):
        return {"field": f"{{{{ {target} }}}}"}
    if not isinstance(target, str):
        raise config.error("doc_to_target", f"`doc_to_target` is a {type(target).__name__}, not a template or a column")
    if isinstance(choices, list):
        names = [str(each) for each in choices]
        are_names = len(set(names)) == len(names) and not any(name.isdigit() for name in names)
        return {"field": target, "names": names} if are_names else {"field": target}
    gold, listed = _expression(target), _expression(choices) if is_template(choices) else choices
    if gold is None or ".index(" in gold:
        return {"field": target}
    index = f"({gold}) | int if ({gold}).isdigit() else ({listed}).index({gold})"
    return {"field": f"{{{{ ({gold}) if ({gold}) is not string else ({index}) }}}}"}


def _add_references(config: Config, parts: Parts) -> None:
    """Add the references. Demonstrations show the whole target, even if a metric ignores a part of it."""
    target = _template(config, "doc_to_target")
    definition, prompt = parts.definition, parts.prompt
    reference, expression = target, _expression(target)
    for ignored in _ignored(config):
        before = BEFORE.fullmatch(ignored)
        if before and expression is not None:
            mark = json.dumps(re.sub(r"\\(.)", r"\1", before[1]), ensure_ascii=False)
            reference = f"{{{{ ({expression}).split({mark})[-1] }}}}"
    if reference != target:
        if "fields" in definition:
            definition["fields"]["target"], target = target, "{{ target }}"
        if config.get("gen_prefix"):
            raise config.error("gen_prefix", "`gen_prefix` together with `regexes_to_ignore` has no counterpart")
    if reference != target or (definition["answer"] == "likelihood" and config.get("target_delimiter", " ")):
        answer = target if reference != target else "{{ option }}"
        query = prompt["demonstration"].removesuffix(prompt["answer"]) if "demonstration" in prompt else prompt["query"]
        prompt["demonstration"] = f"{query}{literal(config.get('target_delimiter', ' '))}{answer}"
    definition["references"] = reference


def _ignored(config: Config) -> list[str]:
    return [regex for each in metric_list(config) for regex in each.get("regexes_to_ignore") or []]
