"""Scores of the same generated texts by icl-eval and by lm-eval's tasks: GSM8K and BBH.

    python benchmarks/extraction.py DATA_DIR [--examples 200]

No model runs: each example gets texts in many forms, right and wrong, as models write them. lm-eval's tasks get the
records of the official releases instead of the Hub's. For each rule, prints how many texts get the same score, and
lists the others. Exits with 1 if a rule disagrees on a text in a form that is not marked as known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub_records import use_records

from icl_eval.metrics import metric
from icl_eval.metrics.prediction import TextPrediction
from icl_eval.tasks import Library

NUMBERS = {
    "marked": "So it is {n}.\n#### {n}",
    "marked, full stop": "#### {n}.",
    "marked, dollars": "That makes ${n}.\n#### ${n}",
    "marked twice": "#### 7\nNo.\n#### {n}",
    "comma": "#### {comma}",
    "closing sentence": "2 + 2 = 4. The answer is {n}.",
    "closing sentence, dollars": "The answer is ${n}.",
    "last number": "First 3, then 4, at last {n} apples",
    "money": "She pays ${n}.00",
    "percent": "It is {n}%",
    "no number": "I do not know.",
    "nothing": "",
    "wrong": "#### 999999. The answer is 999999.",
    "signed": "The answer is -{n}.",
    "decimal": "#### {n}.0",
    "thousands in words": "The answer is {comma} dollars.",
}
WORDS = {
    "closing sentence": "We think. So the answer is {n}.",
    "no full stop": "So the answer is {n}",
    "twice": "So the answer is wrong. So the answer is {n}.",
    "text after": "So the answer is {n}. Next.",
    "capitals": "The answer is {n}.",
    "bare": "{n}",
    "nothing": "",
    "wrong": "So the answer is nothing.",
}
KNOWN = {"decimal", "money"}
"""Forms on which the two differ, because numbers are compared as numbers here: 30.00 is 30."""
TASKS = {
    "gsm8k": ("gsm8k", {"strict-match": "strict", "flexible-extract": "flexible"}, NUMBERS),
    "gsm8k_cot": ("gsm8k-worked", {"strict-match": "strict", "flexible-extract": "flexible"}, NUMBERS),
    "bbh_cot_fewshot_snarks": ("bbh-worked/snarks", {"get-answer": "answer"}, WORDS),
    "bbh_cot_fewshot_boolean_expressions": ("bbh-worked/boolean-expressions", {"get-answer": "answer"}, WORDS),
    "bbh_cot_fewshot_object_counting": ("bbh-worked/object-counting", {"get-answer": "answer"}, WORDS),
    "bbh_zeroshot_snarks": ("bbh/snarks", {"strict-match": ""}, WORDS),
    "bbh_zeroshot_word_sorting": ("bbh/word-sorting", {"strict-match": ""}, WORDS),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--examples", type=int, default=200, help="of each task")
    given = parser.parse_args()
    use_records(given.data_dir)
    from lm_eval.tasks import TaskManager

    manager, failed = TaskManager(), False
    print("| task | rules | texts | the same | right |", "|---|---|---:|---:|---:|", sep="\n")
    for name, (task, rules, forms) in TASKS.items():
        theirs = _Task(name, manager, given.examples)
        texts = [
            (number, form, text.format(n=target, comma=_with_commas(target)))
            for number, target in enumerate(theirs.targets)
            for form, text in forms.items()
        ]
        for rule, our_rule in rules.items():
            found = theirs.scores(rule, [(number, text) for number, _, text in texts])
            ours = _our_scores(task, our_rule, [(theirs.targets[number], text) for number, _, text in texts])
            differing = [(form, text) for (_, form, text), a, b in zip(texts, ours, found, strict=True) if a != b]
            print(f"| {name} | {rule} | {len(texts)} | {len(texts) - len(differing)} | {sum(ours):.0f} |", flush=True)
            for form, text in dict(differing).items():
                print(f"    {form}{' (known)' if form in KNOWN else ''}: {text!r}")
                failed |= form not in KNOWN
    return int(failed)


def _with_commas(target: str) -> str:
    return f"{int(target):,}" if target.isdecimal() else target


def _our_scores(name: str, rules: str, texts: Sequence[tuple[str, str]]) -> list[float]:
    """The scores of texts by a task of this package."""
    definition = Library().task(name).definition
    measure: Any = metric(f"{definition.metrics[0]}{f'@{rules}' if rules else ''}", definition.extract, kind="text")
    predictions = [
        TextPrediction(str(n), text, (target,), str(n), str(n), True, (text,)) for n, (target, text) in enumerate(texts)
    ]
    return [float(row[0]) for row in measure.statistics(predictions).rows]


class _Task:
    """A task of lm-eval."""

    def __init__(self, name: str, manager: Any, examples: int) -> None:
        from lm_eval.tasks import get_task_dict

        self._task = get_task_dict([name], manager)[name]
        self._docs = list(self._task.eval_docs)[:examples]
        gold = [str(self._task.doc_to_target(doc)) for doc in self._docs]
        self.targets = [each.split("#### ")[-1].strip() for each in gold]

    def scores(self, rule: str, texts: Sequence[tuple[int, str]]) -> list[float]:
        """The scores of texts, each of an example, by a filter of the task."""
        (chosen,) = [each for each in self._task._filters if each.name == rule]
        docs = [self._docs[number] for number, _ in texts]
        responses: Any = [[text] for _, text in texts]
        for step in chosen.filters:
            responses = step().apply(responses, docs)
        return [
            float(self._task.process_results(doc, [answer])["exact_match"])
            for doc, answer in zip(docs, responses, strict=True)
        ]


if __name__ == "__main__":
    sys.exit(main())
