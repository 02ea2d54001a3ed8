"""Tasks: task files are read as tasks, and records of any source as examples."""

from icl_eval.tasks.definition import (
    AnswerKind,
    Category,
    Decode,
    Normalization,
    Splits,
    SuiteDefinition,
    TaskDefinition,
    tasks_of,
)
from icl_eval.tasks.example import Example
from icl_eval.tasks.library import Library
from icl_eval.tasks.metric_names import metric_name, named_metrics, runs_code, split_extraction, split_metric_name
from icl_eval.tasks.records import Examples, ids_of
from icl_eval.tasks.sampling import limited
from icl_eval.tasks.sources import HubSource, LocalSource, MemorySource, Source
from icl_eval.tasks.synthetic import SyntheticSource
from icl_eval.tasks.task import Task

__all__ = [
    "AnswerKind",
    "Category",
    "Decode",
    "Example",
    "Examples",
    "HubSource",
    "Library",
    "LocalSource",
    "MemorySource",
    "Normalization",
    "Source",
    "Splits",
    "SuiteDefinition",
    "SyntheticSource",
    "Task",
    "TaskDefinition",
    "ids_of",
    "limited",
    "metric_name",
    "named_metrics",
    "runs_code",
    "split_extraction",
    "split_metric_name",
    "tasks_of",
]
