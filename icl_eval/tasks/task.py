"""A task: its definition, its prompts and its examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import Any

from icl_eval.errors import DataError, TaskError, UnknownName
from icl_eval.prompts import Prompt, prompt_of
from icl_eval.tasks.definition import (
    AnswerKind,
    Category,
    Decode,
    DemonstrationSource,
    Gold,
    Normalization,
    Score,
    Splits,
    TaskDefinition,
)
from icl_eval.tasks.example import Example, question_key
from icl_eval.tasks.files import Record
from icl_eval.tasks.located import first_problem
from icl_eval.tasks.metric_names import GivenMetric, named_metrics
from icl_eval.tasks.protocol import Protocol
from icl_eval.tasks.records import Examples
from icl_eval.tasks.sources import MemorySource, Source
from icl_eval.tasks.synthetic import SyntheticSource

GENERATED = SyntheticSource()  # a single source, because examples are cached by the identity of their source


@dataclass(frozen=True, repr=False)
class Task:
    """A task: its data, its prompts, and how its answers are scored.

    `Task.from_records` makes a task from Python values, and `Library.task` reads one from a task file.
    """

    definition: TaskDefinition
    prompts: Mapping[str, Prompt]
    path: Path | None = None
    source: Source | None = None  # source of the task's own records; None if the run chooses the source
    demonstration_task: Task | None = None  # another task from which demonstrations are drawn
    code: Mapping[str, Any] = field(default_factory=dict)  # metrics that are functions or classes, by name
    _loaded: dict[tuple[str, int], tuple[Source, Examples]] = field(
        default_factory=dict, repr=False, compare=False
    )  # by split and identity of the source, which is kept so that the identity stays unique

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {self.definition.answer}, prompts {', '.join(self.prompts)})"

    def _repr_html_(self) -> str:
        rows = {
            "about": self.definition.about,
            "answer": self.definition.answer,
            "metrics": ", ".join(self.definition.metrics),
            "prompts": ", ".join(self.prompts),
            "shots": str(self.definition.own_shots),
        }
        cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items() if value)
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    @classmethod
    def from_records(
        cls,
        name: str,
        *,
        evaluation: Iterable[Record],
        demonstrations: Iterable[Record] | None = None,
        prompt: str | Prompt | Mapping[str, str | Prompt],
        answer: AnswerKind = "choice",
        options: Sequence[str] | str | None = None,
        gold: str | None = None,
        names: Sequence[str] | None = None,
        references: str | None = None,
        decode: Decode | Mapping[str, Any] | None = None,
        extract: Mapping[str, Sequence[Any]] | None = None,
        metrics: Sequence[GivenMetric] | None = None,
        normalization: Normalization = "token",
        domain_premise: str | None = None,
        draw: str | None = None,
        ids: Sequence[str] | None = None,
        select: str = "random",
        encoder: str | None = None,
        order: str | None = None,
        within: str | None = None,
        id: str | None = None,
        cluster: str | None = None,
        group: str | None = None,
        by: str | Category | Mapping[str, str] | None = None,
    ) -> Task:
        """Make a task from Python values instead of files.

        Args:
            name: name of the task in tables and signatures.
            evaluation: records to evaluate.
            demonstrations: records to draw demonstrations from; by default, the evaluated ones without the query.
            prompt: a template, or several by name. Without blocks it is the query, and the answer is a space and the
                option.
            gold: field with the right option, `label` by default; for `text`, whether the reference is right.
            names: names of the options in the field `gold`, if it has no indices.
            metrics: names, functions or classes; by default, the usual metric of the kind of answer.
            normalization, domain_premise: keys of `score` in task files.
            draw, ids, select, encoder, order, within: keys of `protocol` in task files.
            answer, options, references, decode, extract, id, cluster, group, by: keys of task files.

        Raises:
            TaskError: a value is not valid.
            PromptError: a template is not valid.
            MetricError: a value of `metrics` is not a metric.
        """
        for key, values in (("names", names), ("metrics", metrics)):
            _check_order(name, key, values)
        metric_names, code = (None, {}) if metrics is None else named_metrics(metrics)
        records = {"evaluation": evaluation} | ({} if demonstrations is None else {"demonstrations": demonstrations})
        for split, each in records.items():
            if not isinstance(each, Iterable) or isinstance(each, str | bytes | Mapping):
                raise TaskError(f"task {name!r}: `{split}` must be a list of records, not {type(each).__name__}")
        source = MemorySource({split: list(each) for split, each in records.items()})
        templates = dict(prompt) if isinstance(prompt, Mapping) else {"inline": prompt}
        for template in (each for each in templates.values() if not isinstance(each, str | Prompt)):
            raise TaskError(f"task {name!r}: `prompt` must be a template, not {type(template).__name__}")
        prompts = {style: p if isinstance(p, Prompt) else prompt_of(p, style) for style, p in templates.items()}
        protocol = {"ids": ids, "select": select, "encoder": encoder, "within": within, "draw": draw, "order": order}
        keys: dict[str, Any] = {"answer": answer, "options": options, "references": references, "decode": decode}
        keys |= {"id": id, "by": by, "cluster": cluster, "group": group, "extract": dict(extract or {})}
        keys |= {"gold": _gold(answer, gold, names), "prompts": [*prompts], "task": name, "metrics": metric_names}
        definition = _definition(keys, protocol, (normalization, domain_premise), [*records][-1])
        return cls(definition, prompts, source=source, code=code)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.definition.task

    @property
    def digest(self) -> str:
        """Hash of everything in the definition that can change an answer.

        It does not include how answers are scored, since this can change in rescoring and has its own words in
        signatures.
        """
        definition = self.definition.model_dump(
            exclude={
                **dict.fromkeys(("about", "reference", "prompts", "zero_shot_prompt"), True),
                **dict.fromkeys(("by", "extract", "metrics", "primary"), True),
                "score": {"normalization", "domain_premise"},
            }
        )
        if self.demonstration_task is not None:
            definition["demonstration_task"] = self.demonstration_task.digest
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()

    def prompt(self, style: str | None = None) -> Prompt:
        """The prompt with a name; by default, the first prompt of the task.

        Raises:
            UnknownName: the task does not have this prompt.
        """
        style = style or self.definition.prompts[0]
        if style not in self.prompts:
            raise UnknownName(f"prompt of {self.name}", style, self.prompts)
        return self.prompts[style]

    def on(self, split: str | None = None, fewshot_split: str | None = None) -> Task:
        """The task with another evaluated split, another split for demonstrations, or both.

        Args:
            split: the split to evaluate; by default, the task's own.
            fewshot_split: the split of the task's data from which demonstrations are drawn; by default, the task's own.
                If it is also evaluated, a query and its group and cluster are never its own demonstrations.

        Raises:
            UnknownName: the task's data does not have this split.
        """
        default = self.definition.splits
        for name in (split, fewshot_split):
            self._check_split(name)
        splits = Splits(demonstrations=fewshot_split or default.demonstrations, evaluation=split or default.evaluation)
        return replace(self, definition=self.definition.model_copy(update={"splits": splits}))

    def with_decoding(self, decode: Mapping[str, Any]) -> Task:
        """The task with changed decoding, and then without published numbers. Other tasks than generative ones stay.

        Args:
            decode: changed fields of `Decode`, by name.

        Raises:
            UnknownName: `Decode` does not have this field.
            TaskError: a value is not valid, or does not agree with the other fields.
        """
        for name in decode:
            if name not in Decode.model_fields:
                raise UnknownName("decoding option", name, Decode.model_fields)
        current = self.definition.decode
        if current is None:
            return self
        try:
            changed = Decode.model_validate({**current.model_dump(), **decode})
        except ValueError as error:
            raise TaskError(f"{self.name} cannot be decoded with these options: {first_problem(error)}") from error
        if changed == current:
            return self
        return replace(self, definition=self.definition.model_copy(update={"decode": changed, "reference": None}))

    def with_protocol(self, changes: Mapping[str, Any]) -> Task:
        """The task with a changed protocol. A task without demonstrations is not changed.

        Args:
            changes: changed fields of `Protocol`, by name. Fields of the task that contradict them are dropped.

        Raises:
            TaskError: the changes contradict each other or the remaining fields.
        """
        if not changes or self.definition.splits.demonstrations is None:
            return self
        try:
            protocol = self.definition.protocol.changed(changes)
        except ValueError as error:
            raise TaskError(f"{self.name}: {first_problem(error)}", self.path) from error
        return self.under(protocol)

    def under(self, protocol: Protocol) -> Task:
        """The task with another protocol."""
        return replace(self, definition=self.definition.model_copy(update={"protocol": protocol}))

    def _check_split(self, name: str | None) -> None:
        """Raise `UnknownName` if the task file lists splits but not this one."""
        data, splits = self.definition.data, self.definition.splits
        known = {*data.local, *(data.hub.splits if data.hub else ())}
        if name is not None and known and name not in {*known, splits.evaluation, splits.demonstrations}:
            raise UnknownName(f"split of {self.name}", name, known, self.path)

    def evaluation(self, source: Source) -> Examples:
        """The examples of the evaluated split."""
        return self.split(self.definition.splits.evaluation, source)

    def demonstrations(self, source: Source) -> Sequence[Example]:
        """The candidate demonstrations: the examples of their split that have a right answer.

        There are none if the task has no split for demonstrations.

        Raises:
            DataError: no example has a right answer, or the split cannot be read.
        """
        given = self.definition.splits.demonstrations
        if given is None:
            return []
        if isinstance(given, DemonstrationSource):
            if self.demonstration_task is None:
                raise TaskError(
                    f"task {self.name!r} takes demonstrations from {given.task!r}, which was not loaded", self.path
                )
            found = self.demonstration_task.split(given.split, source)
        else:
            found = self.split(given, source)
        if self.definition.answer == "choice":  # choices always have a right option
            return found
        solved = [example for example in found if example.gold]
        if not solved:
            raise DataError(f"{self.name}: none of the candidate demonstrations has a right answer")
        return solved if len(solved) < len(found) else found

    @property
    def shares_split(self) -> bool:
        """Whether demonstrations are drawn from the evaluated split."""
        return self.definition.splits.demonstrations == self.definition.splits.evaluation

    def question_key(self, example: Example) -> str:
        """A hash of the question, which is the fields that any prompt uses and the options of a choice.

        Examples with equal keys have the same question, up to the order of texts, letter case and white space. If the
        prompts use no field, the question is the whole record.
        """
        values = [example.fields[name] for name in self._question_fields if name in example.fields]
        if not values:
            return example.fingerprint
        return question_key([*values, example.options] if self.definition.answer == "choice" else values)

    def query_text(self, example: Example, prompt: Prompt | None = None) -> str:
        """The text of an example's query, which is compared to select similar demonstrations.

        If the query differs between options, the text contains the queries of all options, so that it does not depend
        on the right one.

        Args:
            example: the query, or a candidate.
            prompt: by default, the first prompt of the task.
        """
        options = example.options if self.definition.answer == "choice" else example.options[:1]
        return "\n".join(dict.fromkeys((prompt or self.prompt()).queries(example.fields, options)))

    @cached_property
    def _question_fields(self) -> list[str]:
        return sorted(set().union(*(prompt.question_fields for prompt in self.prompts.values())))

    def split(self, split: str, source: Source) -> Examples:
        """The examples of a split, which is read only once.

        Raises:
            TaskError: the task does not say where its records are.
            DataError: the split cannot be read or is empty. Later, when an example is accessed: its record does not fit
                the definition.
        """
        source = self.source_in(source)
        key = (split, id(source))
        if key not in self._loaded:
            data, name = self.definition.data, f"{self.name}: split {split!r}"
            if source.label != MemorySource.label and not (data.local or data.hub or data.synthetic):
                raise TaskError(
                    f"the key `data`, which says where the records of {self.name} are, is missing", self.path
                )
            location_of = partial(source.location, data, split)
            self._loaded[key] = source, Examples(self.definition, source.records(data, split), name, location_of)
        return self._loaded[key][1]

    def source_in(self, source: Source) -> Source:
        """The source from which a run on `source` reads the task's records.

        It is the task's own records if there are any. A task with a generator generates records if `source` does not
        have its files.
        """
        if self.source is not None:
            return self.source
        data = self.definition.data
        return GENERATED if data.synthetic and not source.holds(data) else source

    def check_fields(self, source: Source) -> None:
        """Check the fields in every prompt.

        Raises, with file and line:
            PromptError: a prompt contains the answer in its query.
            UnknownName: a prompt uses a field that does not exist.
        """
        first = self.evaluation(source)[0]
        for prompt in self.prompts.values():
            prompt.check_fields(first.fields)
            if self.definition.answer != "choice":
                prompt.check_query_is_unsolved()


def _definition(
    keys: Mapping[str, Any], protocol: Mapping[str, Any], scoring: tuple[Any, Any], demonstrations: str
) -> TaskDefinition:
    """The definition of a task in memory.

    Args:
        keys: keys of the task; `options` may be any sequence.
        protocol: keys of its protocol; None for `draw` and `order` stands for their defaults.
        scoring: normalisation and domain premise.
        demonstrations: split that demonstrations are drawn from.

    Raises:
        TaskError: a value is not valid.
    """
    options = keys["options"]
    for key, value in {"options": options, "ids": protocol["ids"]}.items():
        _check_order(keys["task"], key, value)
    given = {name: each for name, each in protocol.items() if name not in ("draw", "order") or each is not None}
    normalization, domain_premise = scoring
    try:
        return TaskDefinition(
            **{**keys, "options": options if isinstance(options, str | None) else list(options)},
            splits=Splits(demonstrations=demonstrations, evaluation="evaluation"),
            protocol=Protocol.model_validate(given),
            score=Score(normalization=normalization, domain_premise=domain_premise),
        )
    except ValueError as error:
        raise TaskError(f"task {keys['task']!r}: {first_problem(error)}") from error


def _check_order(task: str, key: str, value: Any) -> None:
    """Raise `TaskError` for a set, because the order of its values differs between processes."""
    if isinstance(value, Set) and not isinstance(value, KeysView):
        raise TaskError(f"task {task!r}: `{key}` is a set, which has no order; give a list")


def _gold(answer: AnswerKind, field: str | None, names: Sequence[str] | None) -> Gold | None:
    """The `gold` of a choice; for other kinds of answers, None unless it is given, which the schema checks."""
    if answer != "choice" and field is None and names is None:
        return None
    return Gold(field=field or "label", names=None if names is None else list(names))
