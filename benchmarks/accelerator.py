"""What the engine does on an accelerator: correctness, speed and memory, without downloads or data.

    python benchmarks/accelerator.py [--quick] [--device cuda|cpu]

Needs torch, transformers, accelerate, numpy and this checkout. Models are random, built from configurations: Llama-like
ones of 1 and 8 billion parameters in bfloat16, a Gemma-3-like one with sliding windows, and the bundled tiny GPT-2.
Token ids are deterministic. With `--device cpu` models and work are scaled down, which tests this script.

One table is printed. Every row shows the largest difference of a log-probability to float32 on the CPU, measured on a
narrow copy of the same architecture in float32 on the device, for scores also in bfloat16, and peak memory. Scoring
rows show the time over the bare forward pass of the trie's tokens, generation rows tokens per second and how many times
as fast that is as `generate` of transformers at its best batch size. Below the table is the time of a decoding step,
launched and replayed as a CUDA graph. All times are those of a second call. Work that no
longer fits the time limit, 8 minutes or with `--quick` 2, is named and left out.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from icl_eval.engine import Engine  # noqa: E402
from icl_eval.models import Decoding, GenerateRequest, ScoreAnswer, ScoreRequest, common_prefix  # noqa: E402
from icl_eval.models.causal.model import CausalLM  # noqa: E402
from icl_eval.models.generation.decoder import Entry  # noqa: E402
from icl_eval.models.generation.decoding_step import Recorder, cuda_graphs  # noqa: E402
from icl_eval.models.generation.kv_pool import PooledDecoder  # noqa: E402
from icl_eval.models.generation.search import Extension  # noqa: E402
from icl_eval.models.loading.devices import on_one_gpu  # noqa: E402

TINY = ROOT / "icl_eval" / "tiny" / "model"
WINDOW = 4096  # positions of the random models
STEPS = 8  # of a batch, timed together
CALL = 512  # tokens of a call of the bare forward pass after the first
SECONDS, QUICK_SECONDS = 480, 120
BATCHES = (8, 16, 32, 64)  # of transformers' `generate`
COLUMNS = "model", "work", "tokens", "difference (bfloat16)", "time / bare", "tokens/s", "speed / theirs", "memory"
LIMIT, GREEDY_SHARED, GREEDY, BEAMS = "<= 1.15", ">= 1.5", ">= 1", ">= 3"


@dataclass(frozen=True)
class Shape:
    """A random model: its kind and the sizes of its configuration."""

    name: str
    kind: str  # "llama", "gemma3" or "tiny"
    width: int = 64
    inner: int = 128
    layers: int = 2
    heads: int = 4
    key_heads: int = 2
    vocabulary: int = 1024
    sliding: int = 512
    head_width: int = 16

    def narrow(self) -> Shape:
        """The same architecture at a size that a CPU computes in float32 for comparison."""
        return Shape(self.name, self.kind, sliding=min(self.sliding, 64))


LARGE = (
    Shape("llama 1B", "llama", 2048, 8192, 16, 32, 8, 128256),
    Shape("gemma3 1B", "gemma3", 1152, 6912, 26, 4, 1, 262144, head_width=256),
    Shape("tiny GPT-2", "tiny"),
    Shape("llama 8B", "llama", 4096, 14336, 32, 32, 8, 128256),
)
SMALL = (
    Shape("llama, small", "llama"),
    Shape("gemma3, small", "gemma3", sliding=64),
    Shape("tiny GPT-2", "tiny"),
)


@dataclass(frozen=True)
class Size:
    """How long demonstrations are, and how many queries there are."""

    demonstration: int = 80
    shots: int = 32
    queries: int = 8
    curve: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32)
    fixed: int = 64
    texts: int = 64
    new_tokens: int = 32


LARGE_SIZE = Size()
QUICK_SIZE = Size(queries=4, new_tokens=16)
SMALL_SIZE = Size(demonstration=8, shots=8, queries=2, curve=(0, 1, 4, 8), fixed=4, texts=4, new_tokens=4)


TEXTS = (("greedy, shared", True, 1), ("greedy", False, 1), ("4 beams", False, 4))  # shared demonstrations, beams


class Work:
    """Deterministic requests in token ids below `vocabulary`."""

    def __init__(self, size: Size, vocabulary: int) -> None:
        self.size, self.vocabulary = size, vocabulary

    def tokens(self, seed: int, count: int) -> list[int]:
        """Ids that look random and are the same on every machine."""
        numbers = np.random.Generator(np.random.PCG64(seed)).integers(10, self.vocabulary, count)
        return [int(each) for each in numbers]

    def demonstrations(self, draw: int, shots: int, length: int) -> list[int]:
        """The first `shots` of a draw, each of so many tokens."""
        return [token for shot in range(shots) for token in self.tokens(1000 * draw + shot, length)]

    def rte(self) -> list[ScoreRequest]:
        """Two options of one token; each query has its own draw of demonstrations."""
        size = self.size
        prompts = [
            self.demonstrations(1 + query, size.shots, size.demonstration)
            + self.tokens(900_000 + query, size.demonstration)
            for query in range(size.queries)
        ]
        return [ScoreRequest.of(prompt, [option]) for prompt in prompts for option in (5, 6)]

    def curve(self) -> list[ScoreRequest]:
        """Four options of several tokens at every number of shots, each draw a prefix of the next."""
        size, half = self.size, self.size.demonstration // 2
        return [
            ScoreRequest.of(
                self.demonstrations(101 + query, shots, half) + self.tokens(910_000 + query, half),
                self.tokens(920_000 + 10 * query + option, 3 + option),
            )
            for query in range(size.queries)
            for shots in size.curve
            for option in range(4)
        ]

    def fixed(self) -> list[ScoreRequest]:
        """Two options after one draw for all queries."""
        size = self.size
        draw = self.demonstrations(200, size.shots, size.demonstration)
        prompts = [draw + self.tokens(930_000 + query, size.demonstration) for query in range(size.fixed)]
        return [ScoreRequest.of(prompt, [option]) for prompt in prompts for option in (5, 6)]

    def prompts(self, *, shared: bool) -> list[list[int]]:
        """Prompts of different lengths, with one draw of demonstrations for all or without any."""
        size = self.size
        draw = self.demonstrations(300, size.shots // 2, size.demonstration) if shared else []
        lengths = [size.demonstration + query % 8 for query in range(size.texts)]
        return [draw + self.tokens(940_000 + query, length) for query, length in enumerate(lengths)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 if all of it could be measured, 2 without the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer queries, no model of 8 billion")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here; --device cpu runs a scaled-down form", file=sys.stderr)
        return 2
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bench = Bench(given.device, quick=given.quick)
    for line in bench.header():
        print(line, flush=True)
    for shape in bench.shapes:
        bench.attempt(shape.name, partial(bench.measure, shape))
    for sentence in (*bench.sentences, *bench.left_out):
        print(sentence, flush=True)
    return int(bool(bench.left_out))


class Bench:
    """The rows of the table, each printed as soon as it is there."""

    def __init__(self, device: str, *, quick: bool) -> None:
        self.device = torch.device(device)
        on_cpu = device == "cpu"
        self.dtype = torch.float32 if on_cpu else torch.bfloat16
        self.shapes = SMALL if on_cpu else LARGE[:3] if quick else LARGE
        self.size = SMALL_SIZE if on_cpu else QUICK_SIZE if quick else LARGE_SIZE
        self.batches = BATCHES[:2] if on_cpu else BATCHES[2:] if quick else BATCHES
        self.until = time.monotonic() + (QUICK_SECONDS if quick else SECONDS)
        self.sentences: list[str] = []
        self.left_out: list[str] = []

    def header(self) -> list[str]:
        """The names of what computes, and the head of the table."""
        import transformers

        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU, scaled down"
        return [
            f"{name}; torch {torch.__version__}, transformers {transformers.__version__}, {self.dtype}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            f"|---|---|{'---:|' * (len(COLUMNS) - 2)}",
        ]

    def measure(self, shape: Shape) -> None:
        """All rows of a model."""
        gc.collect()  # the model before
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        differences = self._differences(shape)
        lm = wrapped(shape, self.device, self.dtype)
        decoder = type(lm.generation.decoders((0, 0))).__name__
        self._note(f"{shape.name}: attention by {getattr(lm._kernel, '__name__', 'a mask')}, decoded by {decoder}")
        size = self.size if lm.window > 2048 or self.device.type == "cpu" else SMALL_SIZE
        work = Work(size, min(lm.vocabulary, 100_000))
        for name, requests in (("rte", work.rte()), ("curve", work.curve()), ("fixed", work.fixed())):
            self._row(shape, name, partial(self._scoring, lm, requests, differences[name]))
        for name, shared, beams in TEXTS:
            prompts = work.prompts(shared=shared)
            row = partial(self._generation, lm, prompts, beams, differences[name], shared=shared)
            self._row(shape, name, row)
        if lm.caches_prefixes:
            self.attempt(f"{shape.name}, steps", partial(self._steps, shape, lm, work))

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do a part of the work; one that fails, or for which there is no time left, is reported at the end."""
        if time.monotonic() > self.until:
            self.left_out.append(f"not measured, for want of time: {name}")
            return
        try:
            work()
        except Exception as error:  # the other parts are worth having whatever it was
            traceback.print_exc()
            reason = (str(error).splitlines() or [""])[0]
            self.left_out.append(f"not measured: {name}: {type(error).__name__}: {reason}")

    def _row(self, shape: Shape, name: str, measured: Callable[[], str]) -> None:
        self.attempt(f"{shape.name}, {name}", lambda: print(f"| {shape.name} | {name} | {measured()} |", flush=True))

    def _note(self, sentence: str) -> None:
        """Print a sentence below the table, and at once on stderr, in case the end is never reached."""
        self.sentences.append(sentence)
        print(sentence, file=sys.stderr, flush=True)

    def _steps(self, shape: Shape, lm: CausalLM, work: Work) -> None:
        launched = self._step(lm, work, None)
        sentence = f"{shape.name}: a step of {work.size.texts} hypotheses takes {1e3 * launched:.2f} ms"
        if on_one_gpu(lm.model):
            recorder = Recorder(cuda_graphs(lm.device))
            replayed = self._step(lm, work, recorder)
            replay = f"{1e3 * replayed:.2f} ms when it is replayed"
            sentence += f", {replay if recorder.works else 'and cannot be recorded'}"
        self._note(sentence)

    def _differences(self, shape: Shape) -> dict[str, str]:
        """The largest difference of the narrow model's log-probabilities from those on the CPU.

        Scores are compared with plain sequences through the network alone, texts with those of `generate`.
        """
        narrow, coarse = (wrapped(shape.narrow(), self.device, dtype) for dtype in (torch.float32, torch.bfloat16))
        on_cpu = wrapped(shape.narrow(), torch.device("cpu"), torch.float32)
        work = Work(SMALL_SIZE, narrow.vocabulary)
        found: dict[str, str] = {}
        for name, requests in (("rte", work.rte()), ("curve", work.curve()), ("fixed", work.fixed())):
            expected = [plain(on_cpu.model, request) for request in requests]
            fine, rounded = (_farthest(Engine(lm).answer(requests), expected) for lm in (narrow, coarse))
            found[name] = f"{fine:.1e} ({rounded:.1e})"
        for name, shared, beams in TEXTS:
            texts = [generation(prompt, beams, 4) for prompt in work.prompts(shared=shared)]
            both = zip(Engine(narrow).answer(texts), texts, strict=True)
            found[name] = f"{max(abs(answer.scores[0] - generated_score(on_cpu, text)) for answer, text in both):.1e}"
        return found

    def _scoring(self, lm: CausalLM, requests: list[ScoreRequest], difference: str) -> str:
        calls = bare_calls(requests)
        tokens = sum(length for length, _ in calls)
        limit = self._seconds(lambda: bare_pass(lm.model, calls, self.device))
        ours = self._seconds(lambda: Engine(lm).answer(requests))
        over = f"{ours / limit:.2f} ({LIMIT})"
        return f"{tokens:,} | {difference} | {over} | {tokens / ours:,.0f} | | {self._peak()}"

    def _generation(self, lm: CausalLM, prompts: list[list[int]], beams: int, difference: str, *, shared: bool) -> str:
        count = self.size.new_tokens if self.device.type == "cuda" else SMALL_SIZE.new_tokens
        requests = [generation(prompt, beams, count) for prompt in prompts]
        theirs = max(self._their_speed(lm.model, prompts, beams, count, batch) for batch in self.batches)
        if not theirs:
            raise RuntimeError("`generate` of transformers runs out of memory with every batch size")
        answers: list[Any] = []
        seconds = self._seconds(lambda: answers.extend(Engine(lm).answer(requests)))
        speed = sum(sum(answer.tokens) for answer in answers[: len(prompts)]) / seconds
        wanted = BEAMS if beams > 1 else GREEDY_SHARED if shared else GREEDY
        total = sum(map(len, prompts))
        return f"{total:,} | {difference} | | {speed:,.0f} | {speed / theirs:.2f} ({wanted}) | {self._peak()}"

    def _step(self, lm: CausalLM, work: Work, recorder: Recorder | None) -> float:
        """Seconds of a step of greedy search without shared demonstrations."""
        prefill = partial(lm._run, cached=True, falls_back=True)
        decoder = PooledDecoder(lm._network, prefill, branches=lm.has_tree_attention, recorder=recorder)
        prompts = [np.array(prompt, np.int32) for prompt in work.prompts(shared=False)]
        with torch.inference_mode():
            decoder.enter([Entry(prompt, prompt[:0], len(prompt)) for prompt in prompts])

        def steps() -> None:
            for _ in range(STEPS):
                decoder.step([Extension(row, 100 + row) for row in range(len(prompts))])

        return self._seconds(steps) / STEPS

    def _their_speed(self, model: Any, prompts: list[list[int]], beams: int, count: int, batch: int) -> float:
        """Tokens per second of `generate` on two batches at most; 0 if one does not fit."""
        ordered = sorted(prompts[: 2 * batch], key=len)
        settings = {"num_beams": beams, "do_sample": False, "max_new_tokens": count, "min_new_tokens": count}

        def write() -> None:
            for start in range(0, len(ordered), batch):
                rows = ordered[start : start + batch]
                width = max(map(len, rows))
                tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
                mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
                model.generate(tokens, attention_mask=mask, pad_token_id=0, **settings)

        try:
            return len(ordered) * count / self._seconds(write)
        except torch.OutOfMemoryError:
            return 0.0

    def _seconds(self, work: Callable[[], object]) -> float:
        """The time of the second call: the first loads kernels, or finds out how the model generates."""
        with torch.inference_mode():
            work()
            self._wait()
            self._forget_peak()
            began = time.perf_counter()
            work()
            self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def _peak(self) -> str:
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if self.device.type == "cuda" else ""


def wrapped(shape: Shape, device: torch.device, dtype: torch.dtype) -> CausalLM:
    """A random model of a shape, the same whenever it is built, with the bundled tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = built(shape, device, dtype)
    model.generation_config.eos_token_id = None
    window = min(WINDOW, int(model.config.get_text_config().max_position_embeddings))
    return CausalLM(model, tokenizer, shape.name, f"random {shape.name}", bos=False, window=window)


def built(shape: Shape, device: torch.device, dtype: torch.dtype) -> Any:
    """The network alone; narrow ones get weights large enough that attention matters."""
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

    models: Any = AutoModelForCausalLM
    if shape.kind == "tiny":
        return models.from_pretrained(TINY, dtype=dtype).to(device)
    common: dict[str, Any] = {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.02 if shape.width > 64 else 0.2,
    }
    config: Any = (
        LlamaConfig(**common)
        if shape.kind == "llama"
        else Gemma3TextConfig(**common, head_dim=shape.head_width, sliding_window=shape.sliding)
    )
    torch.manual_seed(0)
    with torch.device(device if shape.width > 64 else "cpu"):  # the narrow ones must be alike on all devices
        return models.from_config(config, dtype=dtype).to(device).eval()


def _farthest(answers: Sequence[ScoreAnswer], expected: Sequence[np.ndarray[Any, Any]]) -> float:
    """The largest difference of a log-probability, in nats."""
    pairs = zip(answers, expected, strict=True)
    return max(float(np.abs(np.array(answer.logprobs) - logprobs).max()) for answer, logprobs in pairs)


def generation(prompt: Sequence[int], beams: int, count: int) -> GenerateRequest:
    """So many tokens after a prompt, as `generate` of transformers writes them."""
    decoding = Decoding(max_tokens=count, stop=(), beams=beams, length_penalty=1.0, penalty="power")
    return GenerateRequest.of(prompt, decoding)


def plain(model: Any, request: ScoreRequest) -> np.ndarray[Any, Any]:
    """The continuation's log-probabilities by one plain sequence through the model."""
    tokens = torch.tensor(list(request.tokens))[None]
    with torch.inference_mode():
        logprobs = model(tokens[:, :-1]).logits[0].float().log_softmax(-1)
    return logprobs.gather(1, tokens[0, 1:, None])[request.boundary - 1 :, 0].numpy()  # type: ignore[no-any-return]


def generated_score(lm: CausalLM, request: GenerateRequest) -> float:
    """What `generate` of transformers finds as the answer's log-probability, divided by its length for beams."""
    prompt, decoding = list(request.tokens), request.decoding
    with torch.inference_mode():
        found = lm.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            num_beams=decoding.beams,
            max_new_tokens=decoding.max_tokens,
            early_stopping="never" if decoding.beams > 1 else False,
            eos_token_id=lm.tokenizer.eos_token_id,
            pad_token_id=lm.tokenizer.eos_token_id,
        )
    logprobs = plain(lm.model, ScoreRequest.of(prompt, found[0, len(prompt) :].tolist()))
    return float(logprobs.sum() if decoding.beams == 1 else logprobs.mean())


def bare_calls(requests: Sequence[ScoreRequest]) -> list[tuple[int, int]]:
    """Calls of the bare forward pass over the trie's tokens: how many tokens, after how many."""
    calls: list[tuple[int, int]] = []
    last = np.empty(0, np.int32)
    for request in sorted(requests, key=lambda each: each.tokens):
        tokens = np.array(request.tokens[:-1], np.int32)
        shared = common_prefix(last, tokens)
        new = len(tokens) - shared
        if calls and new and shared and calls[-1][1] and calls[-1][0] + new <= CALL:
            calls[-1] = (calls[-1][0] + new, calls[-1][1])
        elif new:
            calls.append((new, shared))
        last = tokens
    return calls


def bare_pass(model: Any, calls: Sequence[tuple[int, int]], device: torch.device) -> None:
    """The base model's forward pass over as many tokens at the same depths, without head, masks or planning.

    A cache with windows cannot be cut back and grows instead, as far as its windows let it.
    """
    cache: Any = None
    for length, depth in calls:
        tokens = torch.arange(length, device=device)[None] % 1000
        if not depth:
            cache = model.base_model(input_ids=tokens, use_cache=True).past_key_values
            continue
        if (surplus := cache.get_seq_length() - depth) > 0 and not hasattr(model.config, "sliding_window"):
            cache.crop(-surplus)
        start = cache.get_seq_length()
        positions = torch.arange(start, start + length, device=device)[None]
        model.base_model(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)


if __name__ == "__main__":
    raise SystemExit(main())
