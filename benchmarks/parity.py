"""Log-likelihoods of the same prompts by icl-eval and by lm-eval's Hugging Face backend, text by text.

    python benchmarks/parity.py MODEL DATA_DIR [--tasks superglue/rte,...] [--shots 0,4] [--limit 32] [--split SPLIT]

Both run in float32, one after the other in one process. lm-eval runs with `logits_cache=False`: with its cache,
lm-eval 0.4.13 gives wrong scores to continuations of different lengths that share a sequence. Its log-softmax runs in
float64 here, because in float32 it differs by more than the tolerance on long options (try `--softmax-dtype float32`).
Texts longer than the context length go through lm-eval's rolling log-likelihood. Exits with 1 if any token differs by
more than 1e-4 nats on average over its text.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from icl_eval.engine import Engine
from icl_eval.models import ScoreRequest, load_model
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.runs.tasks import source_of
from icl_eval.tasks import Library

TASKS = "superglue/rte,superglue/cb,superglue/copa,superglue/boolq"
TOLERANCE = 1e-4  # nats per token

Likelihood = tuple[float, bool]  # of one text in nats, and whether every token was the most likely one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--prompt", help="of all tasks; each task's own by default")
    parser.add_argument("--shots", default="0,4")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--max-length", type=int, help="tokens to read at once")
    parser.add_argument("--softmax-dtype", default="float64", help="of lm-eval's log-softmax")
    given = parser.parse_args()
    lm = load_model(str(given.model), max_length=given.max_length)
    queries = list(_queries(lm, given))
    ours, theirs = _ours(lm, queries), _theirs(queries, given)
    worst = 0.0
    print(
        "| task | shots | texts | largest difference (nats per token) | icl-eval | lm-eval |",
        "|---|---:|---:|---:|---|---|",
        sep="\n",
    )
    for cell in dict.fromkeys((query.cell.task, query.cell.shots) for query in queries):
        rows = [i for i, query in enumerate(queries) if (query.cell.task, query.cell.shots) == cell]
        chosen = [queries[i] for i in rows]
        differences = [
            abs(one[0] - other[0]) / tokens
            for i in rows
            for one, other, tokens in zip(ours[i], theirs[i], _tokens(queries[i]), strict=True)
        ]
        scores = [_scores(chosen, [side[i] for i in rows]) for side in (ours, theirs)]
        print(f"| {cell[0]} | {cell[1]} | {len(differences)} | {max(differences):.1e} | {' | '.join(scores)} |")
        worst = max(worst, *differences)
    print(f"\nlargest difference {worst:.1e} nats per token, tolerance {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


def _queries(lm: object, given: argparse.Namespace) -> Iterator[EncodedQuery]:
    names, shots = given.tasks.split(","), tuple(map(int, given.shots.split(",")))
    config = RunConfig(
        model=str(given.model), data=str(given.data_dir), tasks=tuple(names), shots=shots, limit=f"first:{given.limit}"
    )
    for task in Library().tasks(names):
        for prepared in prepare(task, given.prompt, config, source_of(config.data)):
            yield from RequestBuilder(prepared, lm, "error").queries()  # type: ignore[arg-type]


def _ours(lm: object, queries: Sequence[EncodedQuery]) -> list[list[Likelihood]]:
    requests = [each for query in queries for each in _requests(query)]
    answers = iter(Engine(lm).answer(requests))  # type: ignore[arg-type]
    found = []
    for query in queries:
        parts = [(math.fsum(each.logprobs), each.greedy) for each in (next(answers) for _ in _requests(query))]
        whole = (math.fsum(value for value, _ in parts), all(greedy for _, greedy in parts))
        found.append(parts if query.kind == "choice" else [whole])
    return found


def _theirs(queries: Sequence[EncodedQuery], given: argparse.Namespace) -> list[list[Likelihood]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(given.model),
        dtype="float32",
        softmax_dtype=given.softmax_dtype,
        device="cpu",
        batch_size=1,
        max_length=given.max_length,
        logits_cache=False,
    )
    found: list[list[Likelihood]] = []
    for query in queries:
        text = query.text
        if len(query.requests) > 1 and query.kind == "likelihood":
            rolling = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text.answers[0],), 0)], True)
            found.append([(float(rolling[0]), False)])
            continue
        pairs = [(text.context(index, query.shots), answer) for index, answer in enumerate(text.answers)]
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        found.append([(float(value), bool(greedy)) for value, greedy in lm.loglikelihood(requests, disable_tqdm=True)])
    return found


def _requests(query: EncodedQuery) -> list[ScoreRequest]:
    """The requests that are compared: each option after the prompt, or all windows of a likelihood."""
    if query.kind == "choice":
        return list(query.conditional)
    return [each for each in query.requests if isinstance(each, ScoreRequest)]


def _tokens(query: EncodedQuery) -> list[int]:
    """Tokens scored, of each option or of the whole text."""
    counts = [len(request.tokens) - request.boundary for request in _requests(query)]
    return counts if query.kind == "choice" else [sum(counts)]


def _scores(queries: Sequence[EncodedQuery], found: Sequence[Sequence[Likelihood]]) -> str:
    """The usual scores of these likelihoods."""
    if queries[0].kind == "choice":
        by_sum, by_char = ([] for _ in range(2))
        for query, options in zip(queries, found, strict=True):
            values = [value for value, _ in options]
            lengths = [len(answer.strip()) for answer in query.text.answers]
            by_sum.append(_best(values) in query.example.gold)
            by_char.append(_best([v / n for v, n in zip(values, lengths, strict=True)]) in query.example.gold)
        return f"accuracy {_mean(by_sum):.4f} by sum, {_mean(by_char):.4f} by character"
    whole = [options[0] for options in found]
    words = sum(len(query.example.options[0].split()) for query in queries)
    total = math.fsum(value for value, _ in whole)
    if any(len(query.requests) > 1 for query in queries):
        return f"word perplexity {math.exp(-total / words):.3f}"
    return f"accuracy {_mean([greedy for _, greedy in whole]):.4f}, perplexity {math.exp(-total / len(whole)):.3f}"


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
