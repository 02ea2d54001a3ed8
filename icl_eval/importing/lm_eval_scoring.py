"""Conversion of the keys of lm-evaluation-harness tasks, except for the data and the question."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icl_eval.errors import TaskError
from icl_eval.importing.lm_eval_config import Config, PythonCode
from icl_eval.tasks.definition import AnswerKind

PREFIX = "lm-eval/"
ANSWERS: Mapping[str, AnswerKind] = {
    "multiple_choice": "choice",
    "generate_until": "text",
    "loglikelihood": "likelihood",
    "loglikelihood_rolling": "likelihood",
}
LIKELIHOODS = ("loglikelihood", "loglikelihood_rolling")
METRICS: Mapping[AnswerKind, Mapping[str, str]] = {
    "choice": {
        **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info"), "accuracy"),
        "mcc": "matthews_correlation",
        "f1": "f1a",
    },
    "text": {name: name for name in ("exact_match", "bleu", "chrf", "ter")},
    "likelihood": {
        "acc": "greedy_accuracy",
        **{name: name for name in ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")},
    },
}
USUAL: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
NORMALIZATIONS = {"acc": "sum", "acc_norm": "char", "acc_bytes": "byte", "acc_mutual_info": "unconditional"}
NO_COUNTERPART = {
    "class": "is a Python class",
    "use_prompt": "takes a prompt of another package",
    "doc_to_image": "is about images",
    "doc_to_audio": "is about sound",
    "process_results": "computes the scores by Python code, which cannot be frozen",
}
FREEZABLE = ("process_docs", "doc_to_text", "doc_to_target", "doc_to_choice", "custom_dataset", "fewshot_config")
CARRIED = (
    *("task", "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split", "test_split"),
    *(
        "fewshot_split",
        "description",
        "target_delimiter",
        "fewshot_delimiter",
        "num_fewshot",
        "output_type",
        "gen_prefix",
    ),
    *("generation_kwargs", "repeats", "filter_list", "metric_list", *FREEZABLE),
)
UNUSED = ("task_alias", "tag", "metadata", "should_decontaminate", "doc_to_decontamination_query", "unsafe_code")
ARTICLES = r"\b(?:The |the |An |A |The |a |an )"  # a regex of `regexes_to_ignore`
BLOCKS = ("instruction", "query", "answer", "demonstration", "separator")  # in the order of a prompt file
NUMERIC = {",", r"\$", r"\.$", r"\.", "%"}  # values of `regexes_to_ignore` that serve to compare numbers
BEFORE = re.compile(r"\(\?s\)\.\*((?:[^\\.*+?\[\](){}|^$]|\\.)+)")  # a regex that removes everything up to a fixed text


@dataclass
class Notes:
    """How the keys of a task were converted: as they are, changed, or not."""

    carried: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """The parts of a task file and its prompt.

    Attributes:
        definition: keys of the task file.
        prompt: blocks of the prompt in Jinja.
        notes: how the keys were converted.
    """

    definition: dict[str, Any]
    prompt: dict[str, str]
    notes: Notes

    def prompt_text(self) -> str:
        """The content of the prompt file. Line breaks next to the tags of a block are not part of the block."""
        return "".join(_block(name, self.prompt[name]) for name in BLOCKS if name in self.prompt)


def _block(name: str, body: str) -> str:
    """A block of a prompt file; white space alone is written as an expression, so that line breaks are kept."""
    if not body.strip():
        return f"{{% block {name} %}}{body and f'{{{{ {json.dumps(body)} }}}}'}{{% endblock %}}\n"
    return f"{{% block {name} %}}\n{body}\n{{% endblock %}}\n"


def literal(text: str) -> str:
    """A Jinja template that renders as a text."""
    return text if not re.search(r"\{[{%#]|[}%#]\}", text) else f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"


def is_template(text: Any) -> bool:
    """Whether a value is a template, not the name of a column or a constant."""
    return isinstance(text, str) and bool(re.search(r"\{\{|\{%", text))


def check_convertible(config: Config) -> None:
    """Raise `TaskError`, with file and line, for a key that cannot be expressed even with frozen records."""
    if "task" not in config.keys:
        raise TaskError("this file has no `task`; it is meant to be included by others", config.path, 1)
    for key, why in NO_COUNTERPART.items():
        if config.get(key) is not None:
            raise config.error(key, f"`{key}` {why}")
    for key, code in config.python():
        if key.split(".")[0] not in (*FREEZABLE, "metric_list", "filter_list", "doc_to_decontamination_query"):
            raise config.error(key.split(".")[0], f"`{key}` is Python code ({code}), which cannot be frozen")
    kind = config.get("output_type", "generate_until")
    if kind not in ANSWERS:
        raise config.error("output_type", f"`output_type: {kind}` is not one of {', '.join(ANSWERS)}")


def file_name(name: object) -> str:
    """A name from a YAML file as a safe part of a path."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", str(name)).lstrip("-_.") or "unnamed"


def own_name(config: Config, key: str = "task") -> str:
    """The name of an imported task or group."""
    return f"{PREFIX}{file_name(config.keys[key])}"


def answer_of(config: Config) -> AnswerKind:
    """The kind of answer."""
    return ANSWERS[config.get("output_type", "generate_until")]


def common_parts(config: Config) -> Parts:
    """Convert everything but the data and the question: splits, protocol, decoding, extraction and metrics.

    Raises, with file and line:
        TaskError: a key cannot be expressed in a task file.
    """
    notes, answer = Notes(), answer_of(config)
    evaluation = config.get("test_split") or config.get("validation_split")
    if not evaluation:
        raise config.error("task", "there is neither a `test_split` nor a `validation_split`")
    splits = {"evaluation": evaluation}
    fewshot = config.get("fewshot_config", {})
    fewshot_split = fewshot.get("split") or config.get("fewshot_split") or config.get("training_split")
    splits["demonstrations"] = fewshot_split or config.get("validation_split") or evaluation
    definition: dict[str, Any] = {
        "task": own_name(config),
        "about": f"The task {config.keys['task']} of lm-evaluation-harness.",
        "splits": splits,
        "answer": answer,
        "prompts": ["lm-eval"],
        "protocol": _protocol(config, notes),
    }
    if answer == "text":
        definition["decode"] = _decode(config, notes)
        if rules := _extraction(config, notes):
            definition["extract"] = rules
    definition["metrics"] = _metrics(config, definition.get("extract", {}), notes)
    if answer == "choice":
        named = [_metric_name(each) for each in metric_list(config)]
        definition["score"] = {
            "normalization": NORMALIZATIONS.get(next((n for n in named if n in NORMALIZATIONS), ""), "sum")
        }
    notes.carried += [key for key in CARRIED if config.get(key) is not None and key != "task"]
    notes.lost += [f"`{key}`" for key in config.keys if key not in {*CARRIED, *UNUSED} and config.get(key) is not None]
    delimiter = config.get("target_delimiter", " ") if config.get("output_type") not in LIKELIHOODS else ""
    prompt = {
        "answer": literal(delimiter) + "{{ option }}",
        "separator": literal(config.get("fewshot_delimiter", "\n\n")),
    }
    return Parts(definition, prompt, notes)


def _protocol(config: Config, notes: Notes) -> dict[str, Any]:
    shots, fewshot = config.get("num_fewshot", 0), config.get("fewshot_config", {})
    sampler = fewshot.get("sampler", "default")
    if sampler == "first_n":
        return {"shots": shots, "draw": "first"}
    if shots:
        notes.changed.append("demonstrations are drawn by hashes instead of Python's random numbers")
    if sampler != "default":
        notes.changed.append(f"`fewshot_config.sampler: {sampler}` is a draw for each example")
    return {"shots": shots}


def _decode(config: Config, notes: Notes) -> dict[str, Any]:
    given = dict(config.get("generation_kwargs", {}))
    stop = given.pop("until", None) or [config.get("fewshot_delimiter", "\n\n")]
    most = [given.pop(name, None) for name in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    decode: dict[str, Any] = {
        "max_tokens": next((each for each in most if each), 256),
        "stop": [each for each in ([stop] if isinstance(stop, str) else stop) if each],
    }
    temperature, samples = float(given.pop("temperature", 0) or 0), config.get("repeats", 1)
    if given.pop("do_sample", temperature > 0) and temperature > 0:
        decode |= {"temperature": temperature, "top_p": given.pop("top_p", 1), "samples": samples}
    elif samples > 1:
        notes.changed.append(f"`repeats: {samples}` at temperature 0 is a single text, because all would be equal")
    if beams := given.pop("num_beams", None):
        decode |= {"beams": beams, "penalty": "power", "length_penalty": given.pop("length_penalty", 1.0)}
    notes.lost += [f"`generation_kwargs.{name}`" for name in given if name not in ("top_p", "early_stopping")]
    return decode


def _extraction(config: Config, notes: Notes) -> dict[str, list[Any]]:
    """Extraction rules for the pipelines of filters; those that have no counterpart are left out."""
    found: dict[str, list[Any]] = {}
    pipelines = config.get("filter_list", [])
    for pipeline in pipelines:
        try:
            rules = [rule for each in pipeline["filter"] for rule in _rules(each)]
        except ValueError as error:
            notes.lost.append(f"the filter {pipeline.get('name')!r}: {error}")
            continue
        name = re.sub(r"[^a-z0-9_-]", "-", str(pipeline.get("name", "none")).lower()).lstrip("0123456789-_") or "rules"
        found[name] = rules
    if pipelines and not found:
        reasons = "; ".join(notes.lost)
        raise config.error("filter_list", f"no filter can be expressed: {reasons}")
    if not any(found.values()):
        return {}
    return {name: rules or ["strip"] for name, rules in found.items()}


def _rules(given: Mapping[str, Any]) -> list[Any]:
    """The extraction rules for a filter.

    Raises:
        ValueError: the filter has no counterpart.
    """
    function = given["function"]
    if function == "regex":
        group = given.get("group_select", 0)
        if group not in (0, -1):
            raise ValueError(f"`group_select: {group}` has no counterpart, unlike 0 and -1")
        pattern = given.get("regex_pattern", r"#### (\-?[0-9\.\,]+)")
        return [{"pattern": pattern, **({"take": "last"} if group == -1 else {})}, "strip"]
    plain = {"remove_whitespace": ["strip"], "lowercase": ["lower"], "take_first": [], "take_first_k": []}
    if function == "majority_vote":
        return []
    if function not in plain:
        raise ValueError(f"`{function}` has no counterpart")
    return plain[function]


def _votes(config: Config) -> set[str]:
    """The names of the pipelines with a majority vote."""
    pipelines = config.get("filter_list", [])
    return {
        str(each.get("name")).lower()
        for each in pipelines
        if any(isinstance(f, Mapping) and f.get("function") == "majority_vote" for f in each.get("filter", []))
    }


def metric_list(config: Config) -> Sequence[Mapping[str, Any]]:
    """The metrics of a task, or the defaults of lm_eval."""
    usual = [{"metric": name} for name in USUAL[config.get("output_type", "generate_until")]]
    given: Sequence[Mapping[str, Any]] = config.get("metric_list") or usual
    return given


def _metric_name(given: Mapping[str, Any]) -> str:
    return str(given.get("metric"))


def _metrics(config: Config, rules: Mapping[str, Any], notes: Notes) -> list[Any]:
    """The counterparts of the metrics; raises `TaskError` if none has one."""
    known = METRICS[answer_of(config)]
    found: list[Any] = []
    for each in metric_list(config):
        name, aggregation = _metric_name(each), each.get("aggregation")
        if isinstance(each.get("metric"), PythonCode) or isinstance(aggregation, PythonCode):
            notes.lost.append(f"the metric {name}: it is Python code")
        elif name not in known:
            notes.lost.append(f"the metric {name}: it has no counterpart")
        else:
            found.append(_exact_match(each, notes) if name == "exact_match" else known[name])
            if name in NORMALIZATIONS and answer_of(config) == "choice":
                notes.changed.append(f"{name} is accuracy with `--normalization {NORMALIZATIONS[name]}`")
    if not found:
        raise config.error("metric_list", f"no metric can be expressed: {'; '.join(notes.lost)}")
    found = [each for index, each in enumerate(found) if each not in found[:index]]
    if not (votes := _votes(config)):
        return found
    named = [each if isinstance(each, str) else "exact_match" for each in found]
    if not rules:
        return [f"{name}:vote=majority" for name in named]
    return [f"{name}:vote=majority@{each}" if each in votes else f"{name}@{each}" for name in named for each in rules]


def _exact_match(given: Mapping[str, Any], notes: Notes) -> Any:
    """The counterpart of `exact_match` with its settings, which can be `number_match` or `squad_em`."""
    settings = {name: True for name in ("ignore_case", "ignore_punctuation") if given.get(name)}
    ignored = [each for each in given.get("regexes_to_ignore") or [] if not BEFORE.fullmatch(each)]
    if ignored and set(ignored) <= NUMERIC:
        notes.changed.append("exact_match without the signs of `regexes_to_ignore` is number_match")
        return "number_match"
    if ignored == [ARTICLES] and len(settings) == 2:
        notes.changed.append("exact_match without case, punctuation and articles is squad_em")
        return "squad_em"
    if ignored or given.get("ignore_numbers"):
        notes.changed.append("exact_match ignores less: not `regexes_to_ignore` and `ignore_numbers`")
    notes.changed.append("exact_match also ignores white space at both ends")
    return {"exact_match": settings} if settings else "exact_match"
