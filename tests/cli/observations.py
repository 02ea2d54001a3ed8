"""Observations of commands: each runs a command line and returns what arrived where an option acts."""

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

from .command_recorder import BoundaryReached, CommandRecorder, trained

Observe = Callable[..., Any]
QUERY = re.compile(r"Q: (\d+)\n")


def queries(recorder: CommandRecorder, *words: str) -> list[int]:
    """The numbers in the queries that the model receives."""
    return sorted({int(found[-1]) for text, _ in recorder.requests(*words) if (found := QUERY.findall(text))})


def shown_demonstrations(recorder: CommandRecorder, *words: str) -> list[int]:
    """The numbers in all demonstrations of the prompts."""
    return sorted({int(each) for text, _ in recorder.requests(*words) for each in QUERY.findall(text)[:-1]})


def max_shots(recorder: CommandRecorder, *words: str) -> int:
    """The largest number of demonstrations in a prompt."""
    return max((len(QUERY.findall(text)) - 1 for text, _ in recorder.requests(*words)), default=-1)


def distinct_queries_about_0(recorder: CommandRecorder, *words: str) -> int:
    """The number of distinct requests for the query 0: one for each option in each format."""
    return len({text for text, _ in recorder.requests(*words) if re.match(r"q\W*0\D", text, re.IGNORECASE)})


def has_other_instruction(recorder: CommandRecorder, *words: str) -> bool:
    """Whether prompts begin with the instruction of the other prompt."""
    return any(text.startswith("Even or odd?") for text, _ in recorder.requests(*words))


def decodings(recorder: CommandRecorder, *words: str) -> set[tuple[int, int]]:
    """The maximum length and the number of beams of all requests for generation."""
    return {(each.max_tokens, each.beams) for _, each in recorder.requests(*words) if each is not None}


def decoding(name: str) -> Observe:
    """The values of a decoding option in all requests for generation."""

    def observe(recorder: CommandRecorder, *words: str) -> set[Any]:
        return {getattr(each, name) for _, each in recorder.requests(*words) if each is not None}

    return observe


def in_requests(text: str) -> Observe:
    """Whether a text is part of a request."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        return any(text in each for each, _ in recorder.requests(*words))

    return observe


def has_requests_in_short_context(recorder: CommandRecorder, *words: str) -> bool:
    """Whether a model with a context length shorter than a query still receives requests."""
    return bool(recorder.requests(*words, window=14))


def begins_with_bos(recorder: CommandRecorder, *words: str) -> bool:
    """Whether every request begins with the BOS token."""
    texts = [text for text, _ in recorder.requests(*words)]
    return bool(texts) and all(text.startswith("<s>") for text in texts)


def request_count_and_first_word(recorder: CommandRecorder, *words: str) -> tuple[int, str]:
    """The number of answered requests, and the first word on stdout."""
    return len(recorder.requests(*words)), recorder.shell.out.split()[0]


def protocol_values(name: str) -> Observe:
    """The values of a key of the protocols with which demonstrations are drawn."""

    def observe(recorder: CommandRecorder, *words: str) -> set[Any]:
        found: set[Any] = set()
        draw = Pool.draw

        def drawn(pool: Pool, query: Any, shots: int, seed: int) -> Any:
            found.add(getattr(pool.protocol, name))
            return draw(pool, query, shots, seed)

        with recorder.patching() as patch:
            patch.setattr(Pool, "draw", drawn)
            recorder.requests(*words)
        return found

    return observe


def loaded_encoders(recorder: CommandRecorder, *words: str) -> set[str]:
    """The names of the encoders that are loaded to compare texts."""
    found: set[str] = set()

    def encoder(name: str) -> Any:
        def encode(texts: Sequence[str]) -> Any:
            found.add(name)
            return np.ones((len(texts), 1), np.float32)

        return encode

    with recorder.patching() as patch:
        patch.setattr("icl_eval.runs.cells.text_encoder", encoder)
        recorder.requests(*words)
    return found


def drawn_seeds(recorder: CommandRecorder, *words: str) -> set[int]:
    """The seeds with which demonstrations are drawn."""
    found: set[int] = set()
    draw = Pool.draw

    def drawn(pool: Pool, query: Any, shots: int, seed: int) -> Any:
        found.add(seed)
        return draw(pool, query, shots, seed)

    with recorder.patching() as patch:
        patch.setattr(Pool, "draw", drawn)
        recorder.requests(*words)
    return found


def length_checked_queries(recorder: CommandRecorder, *words: str) -> list[int]:
    """The numbers in the queries whose length is compared with the context length."""
    texts: set[str] = set()
    build = RequestBuilder.build

    def built(builder: RequestBuilder, cell: Any, example: Any, demonstrations: Any) -> Any:
        texts.add(example.id)
        return build(builder, cell, example, demonstrations)

    with recorder.patching() as patch:
        patch.setattr(RequestBuilder, "build", built)
        recorder.calls(*words)
    return sorted(map(int, texts))


def in_stdout(text: str) -> Observe:
    """Whether stdout contains a text."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        recorder.requests(*words)
        return text in recorder.shell.out

    return observe


def in_stderr(text: str) -> Observe:
    """Whether stderr contains a text."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        recorder.requests(*words)
        return text in recorder.shell.err

    return observe


def in_stderr_of_real_model(text: str) -> Observe:
    """Whether stderr contains a text, with a real model."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        recorder.calls(*words, computes=True)
        return text in recorder.shell.err

    return observe


def in_stdout_of_real_model(text: str) -> Observe:
    """Whether stdout contains a text, with a real model."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        recorder.calls(*words, computes=True)
        return text in recorder.shell.out

    return observe


def stdout_line_count(recorder: CommandRecorder, *words: str) -> int:
    """The number of lines on stdout."""
    recorder.requests(*words)
    return len(recorder.shell.out.splitlines())


def first_word_of_stdout(recorder: CommandRecorder, *words: str) -> str:
    """The first word on stdout."""
    recorder.requests(*words)
    return recorder.shell.out.split()[0]


def column_values(*names: str) -> Observe:
    """The values of columns of the printed table."""

    def observe(recorder: CommandRecorder, *words: str) -> set[tuple[str, ...]]:
        recorder.requests(*words, "--format", "csv")
        return {tuple(row.get(name, "") for name in names) for row in csv.DictReader(io.StringIO(recorder.shell.out))}

    return observe


def is_written(path: str) -> Observe:
    """Whether a file is written."""

    def observe(recorder: CommandRecorder, *words: str) -> bool:
        Path(path).unlink(missing_ok=True)
        with recorder.patching():
            recorder.requests(*words)
        return Path(path).is_file()

    return observe


def loader_argument(argument: str, name: str = "model") -> Observe:
    """An argument of a loader of `transformers`; `source` is the name that is loaded."""

    def observe(recorder: CommandRecorder, *words: str) -> Any:
        calls = [each for each in recorder.calls(*words) if each.name == name]
        return (
            (calls[-1].source if argument == "source" else calls[-1].arguments.get(argument)) if calls else "not loaded"
        )

    return observe


def loader_arguments(argument: str) -> Observe:
    """An argument of the loaders of tokenizer, configuration and model."""

    def observe(recorder: CommandRecorder, *words: str) -> dict[str, Any]:
        return {each.name: each.arguments.get(argument) for each in recorder.calls(*words)}

    return observe


def is_quantized(recorder: CommandRecorder, *words: str) -> bool:
    """Whether weights are quantised to 8 bits when they are loaded."""
    with recorder.patching() as patch:
        patch.setattr(precision, "find_spec", lambda _: object())
        settings = loader_argument("quantization_config")(recorder, *words)
    return bool(settings and settings.load_in_8bit)


def tensor_parallel_plan(recorder: CommandRecorder, *words: str) -> Any:
    """The tensor-parallel plan of the first of two processes."""
    with recorder.patching() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setattr("icl_eval.runs.evaluate.launched", lambda **_: SINGLE_PROCESS)
        found = loader_argument("distributed_config")(recorder, *words)
    return found and found.tp_plan


def device_on_a_gpu_machine(recorder: CommandRecorder, *words: str) -> Any:
    """The device to which weights are loaded on a machine that reports a GPU."""
    with recorder.patching() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        return loader_argument("device_map")(recorder, *words)


def rows_begin_with_bos(recorder: CommandRecorder, *words: str) -> bool:
    """Whether every row that a network computes begins with the BOS token."""
    first: list[int] = []
    enqueue = CausalLM.enqueue

    def enqueued(lm: CausalLM, rows: Any) -> Any:
        first.extend(int(row.tokens[0]) for row in rows if not row.prefix_length)
        return enqueue(lm, rows)

    with recorder.patching() as patch:
        patch.setattr(CausalLM, "enqueue", enqueued)
        recorder.calls(*words, computes=True)
    return bool(first) and not any(first)


def requests_begin_with_bos(recorder: CommandRecorder, *words: str) -> bool:
    """Whether the first requests to an engine begin with the BOS token."""
    first: list[int] = []

    def answer(engine: Engine, requests: Any) -> Any:
        first.extend(int(np.frombuffer(each.tokens, np.int32)[0]) for each in requests)
        raise BoundaryReached

    with recorder.patching() as patch:
        patch.setattr(Engine, "answer", answer)
        recorder.calls(*words, computes=True)
    return bool(first) and not any(first)


def fitted_shots(recorder: CommandRecorder, *words: str) -> set[int]:
    """The stored numbers of demonstrations that fit the context length."""
    recorder.calls(*words, computes=True)
    (path,) = Path().glob("results/*/examples.jsonl")
    return {json.loads(line)["shots"] for line in path.read_text().splitlines()}


def max_masked_tokens(recorder: CommandRecorder, *words: str) -> int:
    """The largest number of masked tokens in an input of the network."""
    counts: list[int] = []
    forward = Network.forward

    def counting(network: Network, inputs: Any, indices: Any) -> Any:
        mask = trained("masked")[1].mask_token_id
        counts.append(int((inputs["input_ids"] == mask).sum(dim=1).max()))
        return forward(network, inputs, indices)

    with recorder.patching() as patch:
        patch.setattr(Network, "forward", counting)
        recorder.calls(*words, computes=True, family="masked")
    return max(counts)


def launched_processes(recorder: CommandRecorder, *words: str) -> list[tuple[int, bool]]:
    """The number of processes that the launcher starts, and whether their command line would start others."""
    found: list[tuple[int, bool]] = []

    def launch(command: Any) -> None:
        found.append((command.num_processes, "--processes" in command.training_script_args))
        raise BoundaryReached

    with recorder.patching() as patch:
        patch.setattr("accelerate.commands.launch.launch_command", launch)
        recorder.requests(*words)
    return found


def requested_models(recorder: CommandRecorder, *words: str) -> set[str]:
    """The models that are named in requests to a server."""
    return {body["model"] for body in recorder.served(*words)[0]}


def client_settings(select: Callable[[dict[str, Any]], Any]) -> Observe:
    """The arguments of the HTTP clients."""

    def observe(recorder: CommandRecorder, *words: str) -> set[Any]:
        return {select(given) for given in recorder.served(*words)[1]}

    return observe


def attempts_per_request(recorder: CommandRecorder, *words: str) -> int:
    """How often a request is sent to a server that always responds with an error."""
    bodies, _ = recorder.served(*words, always=(503, {}, b""))
    return bodies.count(bodies[0])


def loaded_metrics(recorder: CommandRecorder, *words: str) -> set[str]:
    """The metrics of the `evaluate` library that are loaded."""
    found: set[str] = set()
    module = sys.modules["evaluate"]
    load = module.load

    def loaded(name: str, *settings: Any, **options: Any) -> Any:
        found.add(name)
        return load(name, *settings, **options)

    with recorder.patching() as patch:
        patch.setattr(module, "load", loaded)
        recorder.requests(*words)
    return found
