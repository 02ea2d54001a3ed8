"""A task: its definition, its prompts and its examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
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

GENERATED = SyntheticSource()  # one, because what a source gave is kept by its identity


@dataclass(frozen=True, repr=False)
class Task:
    """A task: its data, its prompts, and how its answers are scored.

    `Task.from_records` makes one from plain Python values; task files become one through `Library.task`.
    """

    definition: TaskDefinition
    prompts: Mapping[str, Prompt]
    path: Path | None = None
    source: Source | None = None  # of the task's own records; without it, the run chooses
    demonstration_task: Task | None = None  # whose split demonstrations are drawn from, if it is another task's
    code: Mapping[str, Any] = field(default_factory=dict)  # metrics that are functions or classes, by name
    _loaded: dict[tuple[str, int], tuple[Source, Examples]] = field(
        default_factory=dict, repr=False, compare=False
    )  # by split and identity of the source, which is kept so that no other takes its identity

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
        """A task without files.

        Args:
            name: what the task is called in tables and signatures.
            evaluation: records to evaluate.
            demonstrations: records to draw demonstrations from; if not given, the evaluation records without the query.
            prompt: a template, or several by style; without blocks it is the query, and the answer is a space and the
                option.
            answer: `choice` ranks `options`, `text` is generated, `likelihood` scores a given text.
            options: option texts (may be templates over the record), or the name of the field that lists them.
            gold: the field with the right option's index or name, `label` if not given; for `text`, the field that says
                whether the reference is right, if not all are.
            names: names of the options in the gold field, if it does not hold indices.
            references: for `text` and `likelihood`, the field with one acceptable text or a list of them.
            decode: for `text`, how the answer is generated.
            extract: for `text`, lists of rules by name that take the answer out of it.
            metrics: names of metrics, with settings as `bleu:tokenize=zh` or `{"bleu": {"tokenize": "zh"}}`, functions
                or classes; the usual metric of the kind of answer if not given.
            normalization: how log-likelihoods of options are made comparable.
            domain_premise: what the calibration `dc-pmi` conditions options on; may be a template over the record.
            draw: `per_example` if not given, `per_group` for the same demonstrations for the queries of a group,
                `fixed` for all, or `first` for the first ones in their order.
            ids: which demonstrations, in their order.
            select: how demonstrations are selected: at `random`; `balanced`, as many of each label; `bm25`, `knn` or
                `dpp`, by similarity to the query; `mdl` or `vote-k:MofN`, by the model; `fast-vote-k` or `diverse`, the
                same representative ones for all queries.
            encoder: model of `transformers` whose vectors are compared instead of TF-IDF.
            order: of the demonstrations in the prompt, such as `drawn`, `reversed`, `balanced`, or `similar-last`, the
                default of a selection by similarity.
            within: field; a query gets demonstrations with its own value.
            id: field with a stable name of the record; its content's hash if not given.
            cluster: field whose equal values mark examples that are not independent.
            group: field that joins the examples of grouped metrics.
            by: field for each of whose values there is a score, as well as their average.

        Raises:
            TaskError: something in the definition is wrong.
            PromptError: a template is wrong.
            MetricError: a metric is none.
        """
        metric_names, code = (None, {}) if metrics is None else named_metrics(metrics)
        splits = {"evaluation": list(evaluation)}
        if demonstrations is not None:
            splits["demonstrations"] = list(demonstrations)
        protocol = {"ids": ids, "select": select, "encoder": encoder, "within": within}
        protocol |= {name: value for name, value in (("draw", draw), ("order", order)) if value is not None}
        given = dict(prompt) if isinstance(prompt, Mapping) else {"inline": prompt}
        prompts = {style: p if isinstance(p, Prompt) else prompt_of(p, style) for style, p in given.items()}
        try:
            definition = TaskDefinition(
                task=name,
                about="",
                splits=Splits(
                    demonstrations="demonstrations" if demonstrations is not None else "evaluation",
                    evaluation="evaluation",
                ),
                id=id,
                gold=_gold(answer, gold, names),
                cluster=cluster,
                group=group,
                by=by,  # type: ignore[arg-type]
                answer=answer,
                options=options if isinstance(options, str | None) else list(options),
                references=references,
                decode=decode,  # type: ignore[arg-type]
                extract=dict(extract or {}),  # type: ignore[arg-type]
                prompts=list(prompts),
                protocol=Protocol.model_validate(protocol),
                score=Score(normalization=normalization, domain_premise=domain_premise),
                metrics=metric_names,  # type: ignore[arg-type]
            )
        except ValueError as error:
            raise TaskError(f"task {name!r}: {first_problem(error)}") from error
        return cls(definition, prompts, source=MemorySource(splits), code=code)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.definition.task

    @property
    def digest(self) -> str:
        """Hash of the definition: of everything in the task file that can change an answer.

        How answers are scored is left out, since rescoring can change it. Signatures name it in their other words.
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
        """The prompt of a style; the task's first by default.

        Raises:
            UnknownName: the task has no such prompt.
        """
        style = style or self.definition.prompts[0]
        if style not in self.prompts:
            raise UnknownName(f"prompt of {self.name}", style, self.prompts)
        return self.prompts[style]

    def on(self, split: str | None = None, fewshot_split: str | None = None) -> Task:
        """The same task with another evaluated split, other demonstrations, or both, whose score is another one.

        Args:
            split: to evaluate instead of the task's own.
            fewshot_split: of the task's own data, to draw demonstrations from. If it is also the evaluated one, no
                demonstration is the query itself or an example of its group or cluster.

        Raises:
            UnknownName: the task's data has no such split.
        """
        default = self.definition.splits
        for name in (split, fewshot_split):
            self._check_split(name)
        splits = Splits(demonstrations=fewshot_split or default.demonstrations, evaluation=split or default.evaluation)
        return replace(self, definition=self.definition.model_copy(update={"splits": splits}))

    def with_decoding(self, decode: Mapping[str, Any]) -> Task:
        """The same task with other decoding, and without published numbers; only generative tasks change.

        Args:
            decode: changes to the task's decoding, by the names of `Decode`.

        Raises:
            UnknownName: there is no such name.
            TaskError: a value is not allowed, alone or with the task's other ones.
        """
        for name in decode:
            if name not in Decode.model_fields:
                raise UnknownName("decoding option", name, Decode.model_fields)
        own = self.definition.decode
        if own is None:
            return self
        try:
            chosen = Decode.model_validate({**own.model_dump(), **decode})
        except ValueError as error:
            raise TaskError(f"{self.name} cannot be decoded with these options: {first_problem(error)}") from error
        if chosen == own:
            return self
        return replace(self, definition=self.definition.model_copy(update={"decode": chosen, "reference": None}))

    def with_protocol(self, changes: Mapping[str, Any]) -> Task:
        """The same task with other demonstrations; a task without any is not changed.

        Args:
            changes: by the names of `Protocol`. Keys of the task that contradict them are dropped.

        Raises:
            TaskError: the changes contradict each other, or what the task keeps.
        """
        if not changes or self.definition.splits.demonstrations is None:
            return self
        try:
            protocol = self.definition.protocol.changed(changes)
        except ValueError as error:
            raise TaskError(f"{self.name}: {first_problem(error)}", self.path) from error
        return self.under(protocol)

    def under(self, protocol: Protocol) -> Task:
        """The same task with another protocol."""
        return replace(self, definition=self.definition.model_copy(update={"protocol": protocol}))

    def _check_split(self, name: str | None) -> None:
        """Raise `UnknownName` for a split that the task file does not list, if it lists any."""
        data, own = self.definition.data, self.definition.splits
        known = {*data.local, *(data.hub.splits if data.hub else ())}
        if name is not None and known and name not in {*known, own.evaluation, own.demonstrations}:
            raise UnknownName(f"split of {self.name}", name, known, self.path)

    def evaluation(self, source: Source) -> Examples:
        """The examples that are evaluated."""
        return self.split(self.definition.splits.evaluation, source)

    def demonstrations(self, source: Source) -> Sequence[Example]:
        """The pool that demonstrations are drawn from: of a split, the examples that have a right answer to show.

        Empty if the task names no split for them.

        Raises:
            DataError: the split has none, or the split cannot be read.
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
        if self.definition.answer == "choice":  # which always has a right option
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
        """A hash of the question: of the fields that any prompt uses and, of a choice, the options.

        Examples with equal keys have the same question, in any order, letter case and white space. If no prompt uses a
        field, the whole record is the question.
        """
        values = [example.fields[name] for name in self._question_fields if name in example.fields]
        if not values:
            return example.fingerprint
        return question_key([*values, example.options] if self.definition.answer == "choice" else values)

    def query_text(self, example: Example, prompt: Prompt | None = None) -> str:
        """The query of an example without an answer, which is compared to select similar demonstrations.

        If the query differs between options, those of all options are compared: nothing depends on the right one.

        Args:
            example: the query, or a candidate.
            prompt: the task's first by default.
        """
        options = example.options if self.definition.answer == "choice" else example.options[:1]
        return "\n".join(dict.fromkeys((prompt or self.prompt()).queries(example.fields, options)))

    @cached_property
    def _question_fields(self) -> list[str]:
        return sorted(set().union(*(prompt.question_fields for prompt in self.prompts.values())))

    def split(self, split: str, source: Source) -> Examples:
        """The examples of a split, read once.

        Raises:
            DataError: the split cannot be read or is empty; when an example is looked at, its record does not fit the
                definition.
        """
        source = self.source_in(source)
        key = (split, id(source))
        if key not in self._loaded:
            data, name = self.definition.data, f"{self.name}: split {split!r}"
            location_of = partial(source.location, data, split)
            self._loaded[key] = source, Examples(self.definition, source.records(data, split), name, location_of)
        return self._loaded[key][1]

    def source_in(self, source: Source) -> Source:
        """The source of the task's records in a run on the data of `source`.

        Records of its own come first; a task with a generator generates where the run's data does not hold its files.
        """
        if self.source is not None:
            return self.source
        data = self.definition.data
        return GENERATED if data.synthetic and not source.holds(data) else source

    def check_fields(self, source: Source) -> None:
        """Raise, with file and line, for the first prompt that names no field or gives the answer away."""
        first = self.evaluation(source)[0]
        for prompt in self.prompts.values():
            prompt.check_fields(first.fields)
            if self.definition.answer != "choice":
                prompt.check_query_is_unsolved()


def _gold(answer: AnswerKind, field: str | None, names: Sequence[str] | None) -> Gold | None:
    """The `gold` of a choice; for other answers only what was given, which the schema checks."""
    if answer != "choice" and field is None and names is None:
        return None
    return Gold(field=field or "label", names=None if names is None else list(names))
