"""Measure a tiny model on the sample, apart from the harness: `python -m tools.tiny.measure MODEL`.

A plain and slow reference for the harness: it takes only the words of the prompts from it, and scores one sequence at a
time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tools.tiny.documents import few_shot, text_of
from tools.tiny.formats import TASKS, examples_of, prompt_of, solved
from tools.tiny.records import DIAGNOSTICS
from tools.tiny.sample import draw_sample
from tools.tiny.symbols import LABELS

SHOTS = (0, 1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class TinyModel:
    """A causal model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def best(self, context: str, options: list[str]) -> int:
        """Index of the option with the highest mean log-probability per token after the context."""
        given = self.tokenizer(context)["input_ids"]
        endings = [self.tokenizer(option)["input_ids"] for option in options]
        if all(len(ending) == 1 for ending in endings):  # one pass ranks them all
            last = self._log_probabilities(given)[-1]
            scores = [float(last[ending[0]]) for ending in endings]
        else:
            scores = [self._mean_score(given, ending) for ending in endings]
        return scores.index(max(scores))

    def _mean_score(self, given: list[int], ending: list[int]) -> float:
        logs = self._log_probabilities([*given, *ending[:-1]])[len(given) - 1 :]
        return sum(float(row[token]) for row, token in zip(logs, ending, strict=True)) / len(ending)

    def _log_probabilities(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities of the next token in nats, `(time, vocabulary)`."""
        with torch.no_grad():
            logits: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0]
        return logits.log_softmax(-1)


def load(path: str) -> TinyModel:
    """The model saved under `path`, in float32."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]
    return TinyModel(model, AutoTokenizer.from_pretrained(path))


def symbol_accuracy(tiny: TinyModel, shots: int, seed: int = 0) -> float:
    """Accuracy on `symbols` with `shots` demonstrations of the query's mapping."""
    files = draw_sample()
    right = 0
    for query in files["symbols/val.jsonl"]:
        same = [record for record in files["symbols/train.jsonl"] if record["mapping"] == query["mapping"]]
        demonstrations = Random(f"{seed}/{query['idx']}").sample(same, 32)[:shots]
        context = (
            "".join(f"{record['symbol']} -> {record['label']}\n" for record in demonstrations) + f"{query['symbol']} ->"
        )
        right += LABELS[tiny.best(context, [f" {label}" for label in LABELS])] == query["label"]
    return right / len(files["symbols/val.jsonl"])


def task_accuracy(tiny: TinyModel, task: str, shots: int, seed: int = 0) -> float:
    """Share of right choices on the sample of a task, where each answer of MultiRC is one choice."""
    files = draw_sample()
    prompt = prompt_of(task)
    fewshot_task = "RTE" if task in DIAGNOSTICS else task
    pool = list(solved(fewshot_task, files[f"superglue/{fewshot_task}/train.jsonl"]))
    examples = examples_of(task, files[f"superglue/{task}/{task if task in DIAGNOSTICS else 'val'}.jsonl"])
    right = 0
    for example in examples:
        demonstrations = text_of(few_shot(task, Random(f"{seed}/{example.id}").sample(pool, shots)))
        queries = [prompt.query(example.fields, example.options, index) for index in range(len(example.options))]
        answers = [prompt.answer(example.fields, example.options, index) for index in range(len(example.options))]
        right += (
            tiny.best(demonstrations + (prompt.separator if demonstrations else "") + queries[0], answers)
            in example.gold
        )
    return right / len(examples)


def main(arguments: list[str]) -> int:
    """Print the symbols curve and the accuracy on each sample task."""
    if len(arguments) != 1:
        print("usage: python -m tools.tiny.measure MODEL", file=sys.stderr)
        return 2
    tiny = load(arguments[0])
    print("symbols (sample)", *(f"{shots}: {symbol_accuracy(tiny, shots):.3f}" for shots in SHOTS), sep="  ")
    for task in TASKS:
        scores = (f"{shots}: {task_accuracy(tiny, task, shots):.3f}" for shots in (0, 4, 16))
        print(f"{task} (sample)", *scores, sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
