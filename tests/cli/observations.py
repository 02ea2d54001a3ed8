"""Observations of a command where an option acts: each runs a command line and returns what arrived."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icl_eval.demos import Pool
from icl_eval.engine import SINGLE_PROCESS, Engine
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.loading import precision
from icl_eval.models.network import Network
from icl_eval.runs.requests import RequestBuilder

from .bench import Bench, Reached, trained

See = Callable[..., Any]
QUERY = re.compile(r"Q: (\d+)\n")


def queries(bench: Bench, *words: str) -> list[int]:
    """The numbers in the queries that the model gets."""
    return sorted({int(found[-1]) for text, _ in bench.requests(*words) if (found := QUERY.findall(text))})


def demonstrated(bench: Bench, *words: str) -> list[int]:
    """The numbers of all demonstrations in prompts."""
    return sorted({int(each) for text, _ in bench.requests(*words) for each in QUERY.findall(text)[:-1]})


def most_shots(bench: Bench, *words: str) -> int:
    """The most demonstrations in a prompt."""
    return max((len(QUERY.findall(text)) - 1 for text, _ in bench.requests(*words)), default=-1)


def questions(bench: Bench, *words: str) -> int:
    """How many different texts ask about 0: each option in each format."""
    return len({text for text, _ in bench.requests(*words) if re.match(r"q\W*0\D", text, re.IGNORECASE)})


def is_instructed(bench: Bench, *words: str) -> bool:
    """Whether prompts begin with the instruction of the other prompt."""
    return any(text.startswith("Even or odd?") for text, _ in bench.requests(*words))


def decodings(bench: Bench, *words: str) -> set[tuple[int, int]]:
    """The greatest length and the beams of the texts that a model is to generate."""
    return {(each.max_tokens, each.beams) for _, each in bench.requests(*words) if each is not None}


def decoding(name: str) -> See:
    """The values of a setting by which texts are generated."""

    def see(bench: Bench, *words: str) -> set[Any]:
        return {getattr(each, name) for _, each in bench.requests(*words) if each is not None}

    return see


def in_requests(text: str) -> See:
    """Whether a text is part of a request."""

    def see(bench: Bench, *words: str) -> bool:
        return any(text in each for each, _ in bench.requests(*words))

    return see


def fits_no_query(bench: Bench, *words: str) -> bool:
    """Whether a model gets requests although its context length is too short for a whole query."""
    return bool(bench.requests(*words, window=14))


def begins_with_bos(bench: Bench, *words: str) -> bool:
    """Whether every request begins with the BOS token."""
    texts = [text for text, _ in bench.requests(*words)]
    return bool(texts) and all(text.startswith("<s>") for text in texts)


def answers_and_first_word(bench: Bench, *words: str) -> tuple[int, str]:
    """How many requests are answered, and the first word of what is printed."""
    return len(bench.requests(*words)), bench.shell.out.split()[0]


def protocol(name: str) -> See:
    """The values of a key of the protocols by which demonstrations are drawn."""

    def seen(bench: Bench, *words: str) -> set[Any]:
        found: set[Any] = set()
        draw = Pool.draw

        def drawn(pool: Pool, query: Any, shots: int, seed: int) -> Any:
            found.add(getattr(pool.protocol, name))
            return draw(pool, query, shots, seed)

        with bench.watched() as patch:
            patch.setattr(Pool, "draw", drawn)
            bench.requests(*words)
        return found

    return seen


def encoders(bench: Bench, *words: str) -> set[str]:
    """The names of the encoders that compare texts."""
    found: set[str] = set()

    def encoder(name: str) -> Any:
        def encode(texts: Sequence[str]) -> Any:
            found.add(name)
            return np.ones((len(texts), 1), np.float32)

        return encode

    with bench.watched() as patch:
        patch.setattr("icl_eval.runs.cells.text_encoder", encoder)
        bench.requests(*words)
    return found


def seeds(bench: Bench, *words: str) -> set[int]:
    """The seeds by which demonstrations are drawn."""
    found: set[int] = set()
    draw = Pool.draw

    def drawn(pool: Pool, query: Any, shots: int, seed: int) -> Any:
        found.add(seed)
        return draw(pool, query, shots, seed)

    with bench.watched() as patch:
        patch.setattr(Pool, "draw", drawn)
        bench.requests(*words)
    return found


def measured(bench: Bench, *words: str) -> list[int]:
    """The numbers in the queries whose length is compared with a model's window."""
    texts: set[str] = set()
    build = RequestBuilder.build

    def built(builder: RequestBuilder, cell: Any, example: Any, demonstrations: Any) -> Any:
        texts.add(example.id)
        return build(builder, cell, example, demonstrations)

    with bench.watched() as patch:
        patch.setattr(RequestBuilder, "build", built)
        bench.calls(*words)
    return sorted(map(int, texts))


def printed(text: str) -> See:
    """Whether a text is printed."""

    def see(bench: Bench, *words: str) -> bool:
        bench.requests(*words)
        return text in bench.shell.out

    return see


def complained(text: str) -> See:
    """Whether a text is part of a message."""

    def see(bench: Bench, *words: str) -> bool:
        bench.requests(*words)
        return text in bench.shell.err

    return see


def refused(text: str) -> See:
    """Whether a text is part of a message about a model that computes."""

    def see(bench: Bench, *words: str) -> bool:
        bench.calls(*words, computes=True)
        return text in bench.shell.err

    return see


def computed(text: str) -> See:
    """Whether a text is printed of a model that computes."""

    def see(bench: Bench, *words: str) -> bool:
        bench.calls(*words, computes=True)
        return text in bench.shell.out

    return see


def lines(bench: Bench, *words: str) -> int:
    """The number of lines that are printed."""
    bench.requests(*words)
    return len(bench.shell.out.splitlines())


def first_word(bench: Bench, *words: str) -> str:
    """What is printed first."""
    bench.requests(*words)
    return bench.shell.out.split()[0]


def columns(*names: str) -> See:
    """The values that columns of the printed table have."""

    def see(bench: Bench, *words: str) -> set[tuple[str, ...]]:
        bench.requests(*words, "--format", "csv")
        return {tuple(row.get(name, "") for name in names) for row in csv.DictReader(io.StringIO(bench.shell.out))}

    return see


def is_file(path: str) -> See:
    """Whether a file is written."""

    def see(bench: Bench, *words: str) -> bool:
        Path(path).unlink(missing_ok=True)
        with bench.watched():
            bench.requests(*words)
        return Path(path).is_file()

    return see


def loader(argument: str, name: str = "model") -> See:
    """One argument of a loader of `transformers`; `source` is what is loaded."""

    def see(bench: Bench, *words: str) -> Any:
        calls = [each for each in bench.calls(*words) if each.name == name]
        return (calls[-1].source if argument == "source" else calls[-1].given.get(argument)) if calls else "not loaded"

    return see


def loaders(argument: str) -> See:
    """One argument of the loaders of tokenizer, configuration and model."""

    def see(bench: Bench, *words: str) -> dict[str, Any]:
        return {each.name: each.given.get(argument) for each in bench.calls(*words)}

    return see


def is_quantized(bench: Bench, *words: str) -> bool:
    """Whether weights become integers of 8 bits while they are loaded."""
    with bench.watched() as patch:
        patch.setattr(precision, "find_spec", lambda _: object())
        settings = loader("quantization_config")(bench, *words)
    return bool(settings and settings.load_in_8bit)


def division(bench: Bench, *words: str) -> Any:
    """The plan by which a model is divided among two processes, of which this is the first."""
    with bench.watched() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setattr("icl_eval.runs.evaluate.launched", lambda **_: SINGLE_PROCESS)
        found = loader("distributed_config")(bench, *words)
    return found and found.tp_plan


def device_beside_a_gpu(bench: Bench, *words: str) -> Any:
    """The device that weights go to on a machine that reports a GPU."""
    with bench.watched() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        return loader("device_map")(bench, *words)


def rows_begin_with_bos(bench: Bench, *words: str) -> bool:
    """Whether every row that a network computes begins with the BOS token."""
    first: list[int] = []
    enqueue = CausalLM.enqueue

    def enqueued(lm: CausalLM, rows: Any) -> Any:
        first.extend(int(row.tokens[0]) for row in rows if not row.prefix_length)
        return enqueue(lm, rows)

    with bench.watched() as patch:
        patch.setattr(CausalLM, "enqueue", enqueued)
        bench.calls(*words, computes=True)
    return bool(first) and not any(first)


def requests_begin_with_bos(bench: Bench, *words: str) -> bool:
    """Whether the first requests to an engine begin with the BOS token."""
    first: list[int] = []

    def answer(engine: Engine, requests: Any) -> Any:
        first.extend(int(np.frombuffer(each.tokens, np.int32)[0]) for each in requests)
        raise Reached

    with bench.watched() as patch:
        patch.setattr(Engine, "answer", answer)
        bench.calls(*words, computes=True)
    return bool(first) and not any(first)


def fitted_shots(bench: Bench, *words: str) -> set[int]:
    """The numbers of demonstrations that were fitted into the model's window."""
    bench.calls(*words, computes=True)
    (path,) = Path().glob("results/*/examples.jsonl")
    return {json.loads(line)["shots"] for line in path.read_text().splitlines()}


def most_masks(bench: Bench, *words: str) -> int:
    """The most masked tokens in an input of the network."""
    counts: list[int] = []
    forward = Network.forward

    def counting(network: Network, inputs: Any, indices: Any) -> Any:
        mask = trained("masked")[1].mask_token_id
        counts.append(int((inputs["input_ids"] == mask).sum(dim=1).max()))
        return forward(network, inputs, indices)

    with bench.watched() as patch:
        patch.setattr(Network, "forward", counting)
        bench.calls(*words, computes=True, family="masked")
    return max(counts)


def launched(bench: Bench, *words: str) -> list[tuple[int, bool]]:
    """How many processes the launcher is to start, and whether they are to start others."""
    found: list[tuple[int, bool]] = []

    def launch(command: Any) -> None:
        found.append((command.num_processes, "--processes" in command.training_script_args))
        raise Reached

    with bench.watched() as patch:
        patch.setattr("accelerate.commands.launch.launch_command", launch)
        bench.requests(*words)
    return found


def asked_models(bench: Bench, *words: str) -> set[str]:
    """The models that requests to a server name."""
    return {body["model"] for body in bench.served(*words)[0]}


def client(select: Callable[[dict[str, Any]], Any]) -> See:
    """What the clients of a server are made with."""

    def see(bench: Bench, *words: str) -> set[Any]:
        return {select(given) for given in bench.served(*words)[1]}

    return see


def attempts(bench: Bench, *words: str) -> int:
    """How often a request is sent to a server that is not ready."""
    bodies, _ = bench.served(*words, always=(503, {}, b""))
    return bodies.count(bodies[0])


def loaded_metrics(bench: Bench, *words: str) -> set[str]:
    """The metrics of the `evaluate` library that are loaded."""
    found: set[str] = set()
    module = sys.modules["evaluate"]
    load = module.load

    def loaded(name: str, *settings: Any, **options: Any) -> Any:
        found.add(name)
        return load(name, *settings, **options)

    with bench.watched() as patch:
        patch.setattr(module, "load", loaded)
        bench.requests(*words)
    return found
