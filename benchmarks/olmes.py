"""Demonstrations, prompts and right answers of the suite `olmes` by icl-eval and by the code of OLMES v0.1.

    python benchmarks/olmes.py OLMO_EVAL CATWALK DATA_DIR [--limit 1000]

The first two are checkouts of github.com/allenai/OLMo-Eval and github.com/allenai/catwalk, whose classes make the
prompts. Both sides get the same records: for demonstrations those in the code of OLMES, so that the ids in the task
files are compared without training data; for queries those of the official releases or, if there is none, the other
records in the code. No model runs. Exits with 1 if a demonstration, a prompt, an option or a right answer differs and
the difference is not marked as known.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from hub_records import Record, hub_records

from icl_eval.demos import Pool
from icl_eval.errors import IclEvalError
from icl_eval.prompts import assemble
from icl_eval.tasks import Library, MemorySource

SHOTS = 5
CODE = "olmo_eval.tasks.olmes_v0_1"
Prompts = list[tuple[str, str]]


@dataclass(frozen=True)
class Pair:
    """A task of the suite, with its class, its demonstrations and its data set in the code of OLMES."""

    name: str
    module: str
    cls: str
    fewshot_source: str
    hub: tuple[str, str | None] | None
    split: str = "validation"


PAIRS = [
    Pair("arc-easy", "arc_std", "ARCEasy", "ARC-Easy", ("allenai/ai2_arc", "ARC-Easy"), "test"),
    Pair("arc-challenge", "arc_std", "ARCChallenge", "ARC-Challenge", ("allenai/ai2_arc", "ARC-Challenge"), "test"),
    Pair("boolq", "boolq_std", "BoolQ", "boolq", ("aps/super_glue", "boolq")),
    Pair("commonsenseqa", "csqa_std", "CommonsenseQA", "commonsense_qa", None),
    Pair("hellaswag", "hellaswag_std", "HellaSwag", "hellaswag", None),
    Pair("openbookqa", "openbookqa_std", "OpenBookQA", "openbookqa", ("allenai/openbookqa", "main"), "test"),
    Pair("piqa", "piqa_std", "PiQA", "piqa", ("baber/piqa", None)),
    Pair("social-iqa", "siqa_std", "SocialIQA", "social_i_qa", None),
    Pair("winogrande", "winogrande_std", "Winogrande", "winogrande", ("allenai/winogrande", "winogrande_xl")),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("olmo_eval", type=Path)
    parser.add_argument("catwalk", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--limit", type=int, help="queries of each task, or of each subject of MMLU")
    given = parser.parse_args()
    _use_code(given.olmo_eval, given.catwalk)
    records = deepcopy(importlib.import_module(f"{CODE}.std_fewshot").STD_FEWSHOT)  # the code changes the original
    failed = 0
    print("| task | demonstrations | queries | equal | known differences |", "|---|---|---:|---:|---:|", sep="\n")
    for form in ("cloze", "lettered"):
        for pair in PAIRS:
            failed += _report(
                f"olmes/{form}/{pair.name}",
                *_of_pair(pair, form, records[pair.fewshot_source], given.data_dir, given.limit),
            )
        failed += _report(f"olmes/{form}/mmlu", *_of_mmlu(form, given.data_dir, given.limit))
    return int(failed > 0)


def _use_code(olmo_eval: Path, catwalk: Path) -> None:
    """Make the modules of the two checkouts importable, without what their packages import first."""
    for name, path in (
        ("catwalk", catwalk / "catwalk"),
        ("olmo_eval", olmo_eval / "olmo_eval"),
        ("olmo_eval.tasks", olmo_eval / "olmo_eval/tasks"),
        (CODE, olmo_eval / "olmo_eval/tasks/olmes_v0_1"),
    ):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(path)]
    for name, attribute in (("sqlitedict", "SqliteDict"), ("catwalk.task", "rc_metrics")):
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], attribute, None)
    sys.modules["catwalk.tasks"] = ModuleType("catwalk.tasks")
    sys.modules["catwalk.tasks.eleuther"] = ModuleType("catwalk.tasks.eleuther")
    sys.modules["catwalk.tasks.eleuther"].EleutherMMLUTask = None  # type: ignore[attr-defined]


def _code_task(cls: type, dataset: Mapping[str, Any], **attributes: Any) -> Any:
    """A task of the code, without the download that its constructor makes."""
    task: Any = object.__new__(cls)
    for key, value in {"_training_docs": None, "_fewshot_docs": None, "_dataset": dataset, **attributes}.items():
        setattr(task, key, value)
    return task


def _code_prompts(task: Any, doc: Any) -> Prompts:
    """The context and the answer of each option."""
    context = task.fewshot_context(doc, SHOTS, rnd=random.Random(0))
    return [tuple(request.args[:2]) for request in task.construct_requests(doc, context)]


def _gold(doc: Record) -> int:
    return int(doc["gold"]) if "gold" in doc else int(doc["answer"]) - 1


def _of_pair(
    pair: Pair, form: str, records: list[Record], data_dir: Path, limit: int | None
) -> tuple[str, Iterator[tuple[Any, Any]]]:
    """Whether the demonstrations are equal; each prompt with its right answer, of this package and of the code."""
    module = importlib.import_module(f"{CODE}.{pair.module}")
    rows = hub_records(data_dir, *pair.hub)[pair.split] if pair.hub else records[SHOTS:]
    theirs = _code_task(
        getattr(module, f"{pair.cls}{'MC' if form == 'lettered' else ''}Std"), {pair.split: deepcopy(rows)}
    )
    docs = theirs.test_docs() if pair.split == "test" else theirs.validation_docs()
    source = MemorySource({"train": records, pair.split: rows})
    expected = MemorySource({"train": records[:SHOTS]})
    return _compared(f"olmes/{form}/{pair.name}", source, expected, islice(docs, limit), theirs)


def _compared(
    name: str, source: MemorySource, expected: MemorySource, docs: Iterator[Any], theirs: Any
) -> tuple[str, Iterator[tuple[Any, Any]]]:
    task = Library().task(name)
    prompt, pool = task.prompt(), Pool.of(task, task.demonstrations(source))
    examples = task.evaluation(source)
    shots = [each.id for each in task.demonstrations(expected)]
    try:
        drawn = pool.draw(examples[0], SHOTS, 0)
    except IclEvalError as error:
        return error.message, iter(())
    verdict = "equal" if [each.id for each in drawn] == shots else "differ"

    def pairs() -> Iterator[tuple[Any, Any]]:
        demonstrations = [prompt.demonstration(each.fields, each.options, each.gold[0]) for each in drawn]
        for example, doc in zip(examples, docs, strict=False):
            text = assemble(prompt, example.fields, example.options, demonstrations)
            ours = [(text.context(index), answer) for index, answer in enumerate(text.answers)]
            yield (ours, example.gold[0]), (_code_prompts(theirs, doc), _gold(doc))

    return verdict, pairs()


def _of_mmlu(form: str, data_dir: Path, limit: int | None) -> tuple[str, Iterator[tuple[Any, Any]]]:
    """The same of all subjects."""
    module = importlib.import_module(f"{CODE}.mmlu_std")
    found, verdicts = list[tuple[Any, Any]](), set[str]()
    for subject in module.SUBJECTS:
        rows = hub_records(data_dir, "cais/mmlu", subject)
        theirs = _code_task(
            module.GeneralHendrycksTest, rows, DATASET_NAME=subject, choice_labels=True if form == "lettered" else None
        )
        source, expected = MemorySource(rows), MemorySource({"dev": rows["dev"][:SHOTS]})
        verdict, pairs = _compared(f"olmes/{form}/mmlu", source, expected, islice(theirs.test_docs(), limit), theirs)
        verdicts.add(verdict)
        found += pairs
    return ", ".join(sorted(verdicts)), iter(found)


def _report(name: str, verdict: str, pairs: Iterator[tuple[Any, Any]]) -> int:
    """Print the row of a task and its first unknown difference; return the number of unknown differences."""
    queries = equal = known = 0
    first: tuple[Any, Any] | None = None
    for ours, other in pairs:
        queries += 1
        equal += ours == other
        if ours != other:
            is_known = _normalized(name, ours) == _normalized(name, other)
            known += is_known
            first = first or (None if is_known else (ours, other))
    print(f"| {name} | {verdict} | {queries} | {equal} | {known} |", flush=True)
    if first is not None:
        print(f"    {first[0]!r}\n    {first[1]!r}")
    return queries - equal - known + (verdict != "equal")


def _normalized(name: str, prompts: tuple[Prompts, int]) -> tuple[Prompts, int]:
    """Without the known differences: white space, and in HellaSwag two full stops."""
    texts, gold = prompts
    if name.endswith("/hellaswag"):
        texts = [(context.replace("..", "."), answer.replace("..", ".")) for context, answer in texts]
    if name.endswith(("/piqa", "/hellaswag", "/cloze/mmlu")):
        texts = [("\n".join(" ".join(line.split()) for line in c.split("\n")), " ".join(a.split())) for c, a in texts]
    return texts, gold


if __name__ == "__main__":
    sys.exit(main())
