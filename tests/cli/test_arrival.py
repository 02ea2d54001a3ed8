"""Every option of every command arrives where it acts: in requests, loaders, clients, files or what is printed.

The table has, for each parameter, a value other than the default and what is then observed where the option acts. Each
case is also run without the option, which must give another observation.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toy_tasks import ASKED, SHOWN

from . import observations as observe
from .command_recorder import CommandRecorder, write_extra_files
from .observations import Observe
from .shell import IclEval
from .test_options import COMMANDS

QUERIES, EXAMPLES = list(ASKED), list(SHOWN)
OTHER = list(range(200, 208))
CPU = torch.device("cpu")

HERE, DATA = ("--include", "."), ("--data-dir", "data")
TOY = (*HERE, *DATA)
PARITY = ("-t", "toy/parity")
ANY = ("run", "-m", "any", *PARITY)
RUN = (*ANY, *TOY, "--shots", "0")
SWEEP = (*RUN, "-m", "second")
SHOT = (*ANY, *TOY, "--shots", "1")
LOAD = ("run", *PARITY, *TOY, "-m", "llama", "--shots", "0")
MAPPED = (*LOAD, "--device-map", "auto")
HUB = ("run", *PARITY, *TOY, "-m", "org/name", "--shots", "0")
SERVED = ("run", *PARITY, *TOY, "-m", "URL", "--tokenizer", "llama", "--shots", "0", "--limit", "1")
TRUSTING = ("run", "-m", "any", "-t", "toy/trusting", *TOY, "--shots", "0")
SHOW = ("show", "toy/parity", *TOY)
CHECK = ("check", "toy/parity", *TOY)
CHAT = (*CHECK, "-m", "llama", "--chat")
PLAN = ("plan", *PARITY, *TOY, "-m", "llama")
KEPT = (*RUN, "--out", "kept")
UNREPORTED = (*KEPT, "--no-report")
TWO = UNREPORTED, (*RUN, "--out", "second", "--no-report")
BASED = UNREPORTED, ("regress", "base.json", "--update", "kept")
PARTS = ("run", "-m", "any", "-t", "toy/parts", *TOY, "--shots", "0", "--split", "train")  # twelve categories
PLOTTED = (*ANY, *TOY, "--shots", "0,1", "--out", "kept", "--no-report")
SEEN = ("examples", "kept", "--limit", "0")
SHOTS = (*ANY, *TOY, "--shots", "0,1", "--seeds", "2")
COMPARE = ("compare", "kept", "second")
HARNESS = ("birds.yaml", "--out", "o")
STEPS = ("--revision", "step1,step2,step4", "--out", "kept", "--no-report")
FITTED = ((*RUN, *STEPS),)
FIT = ("fit", "kept", "--by", "steps")
IMPORT = ("import", "lm-eval", *HARNESS)
REGRESS = ("regress", "base.json", *HERE)
CORPUS = ("--text", "corpus.txt")
CONTAMINATION = ("contamination", *PARITY, *TOY, *CORPUS)
ORDERS = ("orders", *PARITY, *TOY, "-m", "any")
PAIR = ("--shots", "2")
TWO_ORDERS = (*ORDERS, *PAIR)
FEW_ORDERS = ("orders", *PARITY, *TOY, "-m", "llama", "--shots", "2")
TRUSTED: dict[str, Any] = dict.fromkeys(("tokenizer", "config", "model"), True)
MEASURED = "measured: the variance of toy/parity in the given runs"
AT_R1: dict[str, Any] = dict.fromkeys(("tokenizer", "config", "model"), "r1")


@dataclass(frozen=True)
class Case:
    """An observation of a command with an option.

    Attributes:
        command: the command line without the option.
        option: the words of the option.
        observe: runs a command line and returns what arrived.
        expected: what arrives with the option.
        before: command lines that are run first.
    """

    command: tuple[str, ...]
    option: tuple[str, ...]
    observe: Observe
    expected: Any
    before: tuple[tuple[str, ...], ...] = ()


TABLE: dict[str, dict[str, list[Case]]] = {
    "run": {
        "tasks": [Case(RUN, ("toy/pairs",), observe.column_values("task"), {("toy/pairs",), ("toy/parity",)})],
        "task": [Case(RUN, ("-t", "toy/pairs"), observe.column_values("task"), {("toy/pairs",), ("toy/parity",)})],
        "model": [
            Case(("run", *PARITY, *TOY), ("-m", "llama"), observe.loader_argument("source"), "llama"),
            Case(RUN, ("-m", "second"), observe.in_stdout("2 models ("), True),
        ],
        "shots": [Case((*ANY, *TOY), ("--shots", "3"), observe.max_shots, 3)],
        "seeds": [Case(SHOT, ("--seeds", "5,7"), observe.drawn_seeds, {5, 7})],
        "prompts": [Case(RUN, ("--prompt", "chatty"), observe.has_other_instruction, True)],
        "formats": [Case(RUN, ("--formats", "2"), observe.in_requests("Q::"), True)],
        "budget": [Case((*RUN, "--formats", "2"), ("--budget", "40"), observe.in_stdout("plain~f1-"), True)],
        "data": [Case((*ANY, *HERE, "--shots", "0"), ("--data", "sample"), observe.queries, QUERIES)],
        "data_dir": [Case((*ANY, *HERE, "--shots", "0"), ("--data-dir", "other"), observe.queries, OTHER)],
        "split": [Case(RUN, ("--split", "train"), observe.queries, EXAMPLES)],
        "fewshot_split": [
            Case((*ANY, *TOY, "--shots", "7"), ("--fewshot-split", "validation"), observe.shown_demonstrations, QUERIES)
        ],
        "draw": [Case(SHOT, ("--draw", "first"), observe.shown_demonstrations, [100])],
        "select": [Case(SHOT, ("--select", "bm25"), observe.protocol_values("select"), {"bm25"})],
        "encoder": [Case((*SHOT, "--select", "knn"), ("--encoder", "tiny"), observe.loaded_encoders, {"tiny"})],
        "per_shot_loss": [
            Case(SHOT, ("--per-shot-loss",), observe.column_values("metric"), {("accuracy",), ("per_shot_loss",)}),
        ],
        "order": [
            Case((*ANY, *TOY, "--shots", "2"), ("--order", "reversed"), observe.protocol_values("order"), {"reversed"})
        ],
        "labels": [Case(SHOT, ("--labels", "flipped"), observe.protocol_values("labels"), {"flipped"})],
        "fewshot_ids": [
            Case((*ANY, *TOY), ("--fewshot-ids", "103,101,102"), observe.shown_demonstrations, [101, 102, 103])
        ],
        "limit": [Case(RUN, ("--limit", "first:3"), observe.queries, [0, 1, 2])],
        "calibrate": [Case(RUN, ("--calibrate", "contextual"), observe.in_requests("Q: [MASK]\n"), True)],
        "content_free": [
            Case((*RUN, "--calibrate", "contextual"), ("--content-free", "-,?"), observe.in_requests("Q: ?\n"), True)
        ],
        "until": [
            Case(RUN, ("--until", "0.1"), observe.in_stdout("toy/parity: all 8 examples were evaluated before"), True)
        ],
        "normalizations": [
            Case(RUN, ("--normalization", "sum,byte"), observe.column_values("normalization"), {("sum",), ("byte",)}),
            Case(SWEEP, ("--normalization", "sum,byte"), observe.column_values("normalization"), {("sum",), ("byte",)}),
        ],
        "metrics": [
            Case(RUN, ("--metrics", "macro_f1"), observe.column_values("metric"), {("macro_f1",)}),
            Case(SWEEP, ("--metrics", "macro_f1"), observe.column_values("metric"), {("macro_f1",)}),
        ],
        "overflow": [
            Case((*RUN, "--prompt", "chatty"), ("--overflow", "truncate"), observe.has_requests_in_short_context, True)
        ],
        "decode": [
            Case(
                ("run", "-m", "any", "-t", "toy/written", *TOY),
                ("--decode", "max_tokens=2,beams=1"),
                observe.decodings,
                {(2, 1)},
            )
        ],
        "out": [
            Case(RUN, ("--out", "kept"), observe.is_written("kept/scores.json"), True),
            Case(SWEEP, ("--out", "kept"), observe.is_written("kept/sweep.json"), True),
        ],
        "no_report": [
            Case(KEPT, ("--no-report",), observe.is_written("kept/report.html"), False),
            Case((*SWEEP, "--out", "kept"), ("--no-report",), observe.is_written("kept/report.html"), False),
        ],
        "categories": [
            Case((*PARTS, *also), ("--categories",), observe.in_stdout(" 107 "), True)
            for also in ((), ("-m", "second"))
        ],
        "columns": [Case(command, ("--columns", "ties"), observe.in_stdout(" ties"), True) for command in (RUN, SWEEP)],
        "signatures": [
            Case(command, ("--signatures",), observe.in_stdout("|plain|k0|"), True) for command in (RUN, SWEEP)
        ],
        "format": [
            Case(RUN, ("--format", "json"), observe.in_stdout('"scores": ['), True),
            Case(SWEEP, ("--format", "json"), observe.in_stdout('"models": ['), True),
        ],
        "include": [
            Case(
                ("run", "-m", "any", "-t", "more/parity", *DATA, "--shots", "0"),
                ("--include", "more"),
                observe.queries,
                QUERIES,
            )
        ],
        "revision": [
            Case(HUB, ("--revision", "r1"), observe.loader_arguments("revision"), AT_R1),
            Case(RUN, ("--revision", "r1,r2"), observe.column_values("revision"), {("r1",), ("r2",)}),
        ],
        "dtype": [Case(LOAD, ("--dtype", "bfloat16"), observe.loader_argument("dtype"), torch.bfloat16)],
        "device": [Case(LOAD, ("--device", "cpu"), observe.device_on_a_gpu_machine, {"": CPU})],
        "bos": [Case(LOAD, ("--bos", "yes"), observe.rows_begin_with_bos, True)],
        "chat": [Case(RUN, ("--chat",), observe.in_requests("<user>"), True)],
        "chat_args": [Case((*RUN, "--chat"), ("--chat-args", "mood=calm"), observe.in_requests("(calm)"), True)],
        "chat_demonstrations": [
            Case((*SHOT, "--chat"), ("--chat-demonstrations", "message"), observe.in_requests("\n\nQ: "), True)
        ],
        "chat_instruction": [
            Case(
                (*RUN, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                observe.in_requests("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [Case((*LOAD, "--shots", "8"), ("--max-length", "60"), observe.fitted_shots, {3})],
        "trust_remote_code": [
            Case(
                LOAD,
                ("--trust-remote-code",),
                observe.loader_arguments("trust_remote_code"),
                TRUSTED,
            ),
            Case(TRUSTING, ("--trust-remote-code",), observe.column_values("metric"), {("evaluate:agreement",)}),
        ],
        "allow_pickle": [Case(LOAD, ("--allow-pickle",), observe.loader_argument("use_safetensors"), None)],
        "quantize": [Case(LOAD, ("--quantize", "8bit"), observe.is_quantized, True)],
        "device_map": [Case(LOAD, ("--device-map", "sequential"), observe.loader_argument("device_map"), "sequential")],
        "max_memory": [
            Case(MAPPED, ("--max-memory", "cpu=2GB"), observe.loader_argument("max_memory"), {"cpu": "2GB"})
        ],
        "offload_dir": [Case(MAPPED, ("--offload-dir", "spill"), observe.loader_argument("offload_folder"), "spill")],
        "tensor_parallel": [Case(LOAD, ("--tensor-parallel",), observe.tensor_parallel_plan, "auto")],
        "attn": [Case(LOAD, ("--attn", "eager"), observe.loader_argument("attn_implementation"), "eager")],
        "pll": [Case(LOAD, ("--pll", "plain"), observe.max_masked_tokens, 1)],
        "tokenizer": [Case(LOAD, ("--tokenizer", "words"), observe.loader_argument("source", "tokenizer"), "words")],
        "served_name": [Case(SERVED, ("--served-name", "second"), observe.requested_models, {"second"})],
        "concurrency": [
            Case(
                SERVED,
                ("--concurrency", "3"),
                observe.client_settings(lambda given: given["limits"].max_connections),
                {3},
            )
        ],
        "timeout": [
            Case(SERVED, ("--timeout", "7"), observe.client_settings(lambda given: given["timeout"].read), {7.0})
        ],
        "retries": [Case(SERVED, ("--retries", "1"), observe.attempts_per_request, 2)],
        "explain": [
            Case(RUN, ("--explain",), observe.request_count_and_first_word, (0, "requests")),
            Case(SWEEP, ("--explain",), observe.request_count_and_first_word, (0, "any")),
        ],
        "processes": [Case(RUN, ("--processes", "3"), observe.launched_processes, [(3, False)])],
    },
    "list": {
        "match": [Case(("list", *HERE), ("toy/pairs",), observe.stdout_line_count, 1)],
        "include": [Case(("list", "toy/pairs"), HERE, observe.stdout_line_count, 1)],
        "reference": [Case(("list",), ("--reference", "gpt3:LAMBADA"), observe.first_word_of_stdout, "gpt3:LAMBADA")],
    },
    "show": {
        "tasks": [Case(("show", *TOY), ("toy/pairs",), observe.in_stdout("\ntoy/pairs, prompt plain"), True)],
        "task": [Case(("show", *TOY), ("-t", "toy/pairs"), observe.in_stdout("\ntoy/pairs, prompt plain"), True)],
        "shots": [Case(SHOW, ("--shots", "3"), observe.in_stdout("3 of 3 demonstrations"), True)],
        "prompt": [Case(SHOW, ("--prompt", "chatty"), observe.in_stdout("Even or odd?"), True)],
        "example": [Case(SHOW, ("--example", "5"), observe.in_stdout("Q: 5\nA:⟦ odd⟧"), True)],
        "seed": [Case(SHOW, ("--seed", "6"), observe.drawn_seeds, {6})],
        "model": [Case(SHOW, ("-m", "llama"), observe.loader_argument("source"), "llama")],
        "data": [
            Case(("show", "toy/parity", *HERE, "-m", "any"), ("--data", "sample"), observe.in_stdout("Q: 0\nA:⟦"), True)
        ],
        "data_dir": [
            Case(("show", "toy/parity", *HERE), ("--data-dir", "other"), observe.in_stdout("Q: 200\nA:⟦"), True)
        ],
        "split": [Case(SHOW, ("--split", "train"), observe.in_stdout("Q: 100\nA:⟦"), True)],
        "fewshot_split": [
            Case((*SHOW, "--shots", "7"), ("--fewshot-split", "validation"), observe.in_stdout("Q: 1\nA: odd"), True)
        ],
        "draw": [Case(SHOW, ("--draw", "first"), observe.in_stdout("Q: 100\nA: even\n\nQ: 101\nA: odd\n\nQ"), True)],
        "select": [Case(SHOW, ("--select", "bm25"), observe.protocol_values("select"), {"bm25"})],
        "encoder": [Case((*SHOW, "--select", "knn"), ("--encoder", "tiny"), observe.loaded_encoders, {"tiny"})],
        "formats": [Case(SHOW, ("--formats", "2"), observe.in_stdout("plain~f1: separator"), True)],
        "order": [Case(SHOW, ("--order", "reversed"), observe.protocol_values("order"), {"reversed"})],
        "labels": [Case(SHOW, ("--labels", "flipped"), observe.protocol_values("labels"), {"flipped"})],
        "fewshot_ids": [Case(SHOW, ("--fewshot-ids", "103,101,102"), observe.in_stdout("3 of 3 demonstrations"), True)],
        "include": [
            Case(
                ("show", "more/parity", *DATA),
                ("--include", "more"),
                observe.in_stdout("\nmore/parity, prompt plain"),
                True,
            )
        ],
        "tokenizer": [
            Case(
                (*SHOW, "-m", "llama"),
                ("--tokenizer", "words"),
                observe.loader_argument("source", "tokenizer"),
                "words",
            )
        ],
        "revision": [
            Case(
                (*SHOW, "-m", "org/name"),
                ("--revision", "r1"),
                observe.loader_arguments("revision"),
                AT_R1,
            )
        ],
        "bos": [
            Case((*SHOW, "-m", "llama", "--tokens"), ("--bos", "yes"), observe.in_stdout_of_real_model("<s>│"), True)
        ],
        "chat": [Case(SHOW, ("--chat",), observe.in_stdout("<user>"), True)],
        "chat_args": [Case((*SHOW, "--chat"), ("--chat-args", "mood=calm"), observe.in_stdout("(calm)"), True)],
        "chat_demonstrations": [
            Case((*SHOW, "--chat"), ("--chat-demonstrations", "message"), observe.in_stdout("\n\nQ: "), True)
        ],
        "chat_instruction": [
            Case(
                (*SHOW, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                observe.in_stdout("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [
            Case(
                (*SHOW, "-m", "llama"), ("--max-length", "100"), observe.in_stdout_of_real_model("of 100 tokens"), True
            )
        ],
        "tokens": [Case(SHOW, ("--tokens",), observe.in_stdout("Q│:│"), True)],
    },
    "check": {
        "tasks": [Case(CHECK, ("toy/pairs",), observe.stdout_line_count, 2)],
        "task": [Case(CHECK, ("--task", "toy/pairs,toy/parity"), observe.stdout_line_count, 2)],
        "data": [Case(("check", "toy/parity", *HERE), ("--data", "hub"), observe.in_stdout("ok "), False)],
        "data_dir": [Case(("check", "toy/parity", *HERE), ("--data-dir", "gone"), observe.in_stdout("ok "), False)],
        "split": [
            Case(CHECK, ("--split", "train"), observe.in_stdout("ok toy/parity: 12 examples"), True),
            Case((*CHECK, "-m", "llama"), ("--split", "train"), observe.length_checked_queries, EXAMPLES),
        ],
        "fewshot_split": [
            Case(CHECK, ("--fewshot-split", "validation"), observe.in_stdout("8 candidate demonstrations"), True)
        ],
        "include": [
            Case(("check", "more/parity", *DATA), ("--include", "more"), observe.in_stdout("ok more/parity"), True)
        ],
        "model": [Case(CHECK, ("-m", "llama"), observe.loader_argument("source", "config"), "llama")],
        "tokenizer": [
            Case(
                (*CHECK, "-m", "llama"),
                ("--tokenizer", "words"),
                observe.loader_argument("source", "tokenizer"),
                "words",
            )
        ],
        "revision": [
            Case(
                (*CHECK, "-m", "org/name"),
                ("--revision", "r1"),
                observe.loader_arguments("revision"),
                {"tokenizer": "r1", "config": "r1"},
            )
        ],
        "bos": [Case((*CHECK, "-m", "llama", "--max-length", "25"), ("--bos", "yes"), observe.in_stdout("ok "), False)],
        "chat": [Case((*CHECK, "-m", "llama", "--max-length", "25"), ("--chat",), observe.in_stdout("ok "), False)],
        "chat_args": [
            Case((*CHAT, "--max-length", "50"), ("--chat-args", "mood=calm"), observe.in_stdout("ok "), False)
        ],
        "chat_instruction": [
            Case((*CHAT, "--max-length", "44"), ("--chat-instruction", "user"), observe.in_stdout("ok "), True)
        ],
        "max_length": [Case((*CHECK, "-m", "llama"), ("--max-length", "9"), observe.in_stdout("ok "), False)],
        "trust_remote_code": [
            Case(
                (*CHECK, "-m", "llama"),
                ("--trust-remote-code",),
                observe.loader_arguments("trust_remote_code"),
                {"tokenizer": True, "config": True},
            ),
            Case(("check", "toy/trusting", *TOY), ("--trust-remote-code",), observe.loaded_metrics, {"agreement"}),
        ],
    },
    "rescore": {
        "folder": [Case(("rescore",), ("kept",), observe.in_stdout("toy/parity"), True, before=(UNREPORTED,))],
        "normalizations": [
            Case(
                ("rescore", "kept"),
                ("--normalization", "sum"),
                observe.column_values("normalization"),
                {("sum",)},
                before=(UNREPORTED,),
            ),
            Case(
                ("rescore", "kept"),
                ("--normalization", "sum"),
                observe.column_values("normalization"),
                {("sum",)},
                before=((*SWEEP, "--out", "kept"),),
            ),
        ],
        "metrics": [
            Case(
                ("rescore", "kept"),
                ("--metrics", "macro_f1"),
                observe.column_values("metric"),
                {("macro_f1",)},
                before=(UNREPORTED,),
            ),
            Case(
                ("rescore", "kept"),
                ("--metrics", "macro_f1"),
                observe.column_values("metric"),
                {("macro_f1",)},
                before=((*SWEEP, "--out", "kept"),),
            ),
        ],
        "extract": [
            Case(
                ("rescore", "kept"),
                ("--extract", "rules.yaml"),
                observe.column_values("metric"),
                {("squad_em@last",)},
                before=(("run", "-m", "any", "-t", "toy/written", *TOY, "--out", "kept"),),
            )
        ],
        "no_report": [
            Case(("rescore", "kept"), ("--no-report",), observe.is_written("kept/report.html"), False, (UNREPORTED,))
        ],
        "categories": [
            Case(("rescore", "kept"), ("--categories",), observe.in_stdout(" 107 "), True, ((*PARTS, "--out", "kept"),))
        ],
        "reasoning_end": [
            Case(
                ("rescore", "kept"),
                ("--reasoning-end", "</think>"),
                observe.in_stdout("8 texts have no answer, as the reasoning does not end"),
                True,
                before=(("run", "-m", "any", "-t", "toy/written", *TOY, "--out", "kept"),),
            )
        ],
        "contamination": [
            Case(
                ("rescore", "kept"),
                ("--contamination", "contamination.jsonl"),
                observe.in_stdout(" dirty"),
                True,
                (UNREPORTED, CONTAMINATION),
            )
        ],
        "columns": [
            Case(("rescore", "kept"), ("--columns", "ties"), observe.in_stdout(" ties"), True, before=(UNREPORTED,))
        ],
        "signatures": [
            Case(("rescore", "kept"), ("--signatures",), observe.in_stdout("|plain|k0|"), True, before=(UNREPORTED,))
        ],
        "format": [
            Case(
                ("rescore", "kept"), ("--format", "json"), observe.in_stdout('"scores": ['), True, before=(UNREPORTED,)
            )
        ],
        "trust_remote_code": [
            Case(
                ("rescore", "kept"),
                ("--trust-remote-code",),
                observe.column_values("metric"),
                {("evaluate:agreement",)},
                before=((*TRUSTING, "--trust-remote-code", *out, "--out", "kept"),),
            )
            for out in ((), ("-m", "second"))
        ],
    },
    "compare": {
        "folder": [Case(("compare", "second"), ("kept",), observe.in_stdout("toy/parity"), True, TWO)],
        "others": [Case(("compare", "kept"), ("second",), observe.in_stdout("toy/parity"), True, TWO)],
        "normalizations": [
            Case(COMPARE, ("--normalization", "sum"), observe.column_values("normalization"), {("sum",)}, TWO)
        ],
        "metrics": [Case(COMPARE, ("--metrics", "macro_f1"), observe.column_values("metric"), {("macro_f1",)}, TWO)],
        "no_report": [
            Case(COMPARE, ("--no-report",), observe.is_written("second/compared-with-kept.html"), False, TWO)
        ],
        "categories": [
            Case(
                COMPARE,
                ("--categories",),
                observe.in_stdout(" 107 "),
                True,
                tuple((*PARTS, "--out", name) for name in ("kept", "second")),
            )
        ],
        "columns": [Case(COMPARE, ("--columns", "eff. shots,scoring"), observe.in_stdout(" scoring"), True, TWO)],
        "signatures": [Case(COMPARE, ("--signatures",), observe.in_stdout("|plain|k0|"), True, TWO)],
        "format": [Case(COMPARE, ("--format", "json"), observe.in_stdout('"task": "toy/parity"'), True, TWO)],
        "trust_remote_code": [
            Case(
                COMPARE,
                ("--trust-remote-code",),
                observe.column_values("metric"),
                {("evaluate:agreement",)},
                tuple((*TRUSTING, "--trust-remote-code", "--out", name) for name in ("kept", "second")),
            )
        ],
    },
    "fit": {
        "folders": [
            Case(("fit", "--by", "steps"), ("kept",), observe.in_stdout("3 models by training steps"), True, FITTED)
        ],
        "by": [Case(("fit", "kept"), ("--by", "steps"), observe.in_stdout("3 models by training steps"), True, FITTED)],
        "tokens": [
            Case(
                ("fit", "kept", "--by", "tokens"),
                ("--tokens", "fake@step1=1e9,fake@step2=2e9,fake@step4=4e9"),
                observe.in_stdout("fake@step4 4B"),
                True,
                FITTED,
            )
        ],
        "tokens_per_step": [
            Case(
                ("fit", "kept", "--by", "tokens"),
                ("--tokens-per-step", "1000"),
                observe.in_stdout("fake@step4 4k"),
                True,
                FITTED,
            )
        ],
        "irreducible": [Case(FIT, ("--irreducible", "yes"), observe.column_values("held_out"), {("",)}, FITTED)],
        "normalizations": [
            Case(FIT, ("--normalization", "sum"), observe.column_values("normalization"), {("sum",)}, FITTED)
        ],
        "metrics": [Case(FIT, ("--metrics", "macro_f1"), observe.column_values("metric"), {("macro_f1",)}, FITTED)],
        "columns": [Case(FIT, ("--columns", "exponent"), observe.in_stdout("measured"), False, FITTED)],
        "format": [Case(FIT, ("--format", "json"), observe.in_stdout('"fits"'), True, FITTED)],
        "trust_remote_code": [
            Case(
                FIT,
                ("--trust-remote-code",),
                observe.in_stderr("the metric has no bounds"),
                True,
                ((*TRUSTING, "--trust-remote-code", *STEPS),),
            )
        ],
    },
    "examples": {
        "folder": [Case(("examples",), ("kept",), observe.in_stdout("toy/parity"), True, (UNREPORTED,))],
        "wrong": [Case(SEEN, ("--wrong",), observe.in_stdout(": right"), False, (UNREPORTED,))],
        "right": [Case(SEEN, ("--right",), observe.in_stdout(": wrong"), False, (UNREPORTED,))],
        "flips": [Case(SEEN, ("--flips", "second"), observe.in_stdout("example "), False, TWO)],
        "sort": [Case((*SEEN, "--limit", "1"), ("--sort", "loss"), observe.in_stdout(": right"), False, (UNREPORTED,))],
        "prompt": [Case(SEEN, ("--prompt",), observe.in_stdout("Q: 0\nA:"), True, (UNREPORTED,))],
        "limit": [Case(("examples", "kept"), ("--limit", "1"), observe.in_stdout("example 1:"), False, (UNREPORTED,))],
        "as_json": [Case(SEEN, ("--json",), observe.in_stdout('"p_token"'), True, (UNREPORTED,))],
        "task": [
            Case(SEEN, ("-t", "toy/pairs"), observe.in_stdout("toy/parity"), False, ((*UNREPORTED, "-t", "toy/pairs"),))
        ],
        "shots": [
            Case(
                SEEN, ("--shots", "1"), observe.in_stdout("0 shots"), False, ((*SHOTS, "--out", "kept", "--no-report"),)
            )
        ],
        "seed": [
            Case(SEEN, ("--seed", "1"), observe.in_stdout("seed 0"), False, ((*SHOTS, "--out", "kept", "--no-report"),))
        ],
        "id": [Case(SEEN, ("--id", "3"), observe.in_stdout("example 0:"), False, (UNREPORTED,))],
    },
    "import": {
        "harness": [Case(("import",), ("lm-eval", *HARNESS), observe.in_stdout("lm-eval/birds: whole"), True)],
        "files": [
            Case(("import", "lm-eval", "--out", "o"), ("birds.yaml",), observe.in_stdout("lm-eval/birds: whole"), True)
        ],
        "folder": [Case(("import", "lm-eval", "birds.yaml"), ("--out", "o"), observe.in_stdout("birds: whole"), True)],
        "data": [Case(IMPORT, ("--data", "hub"), observe.in_stdout("use --data hub or --data-dir"), False)],
        "data_dir": [Case(IMPORT, DATA, observe.in_stdout("use --data hub or --data-dir"), False)],
        "trust_remote_code": [
            Case(
                ("import", "lm-eval", "code.yaml", "--out", "o"),
                ("--trust-remote-code",),
                observe.in_stderr("--trust-remote-code runs it"),
                False,
            )
        ],
    },
    "plot": {
        "folders": [Case(("plot", "-o", "a.svg"), ("kept",), observe.is_written("a.svg"), True, (PLOTTED,))],
        "out": [Case(("plot", "kept"), ("-o", "a.svg"), observe.is_written("a.svg"), True, (PLOTTED,))],
        "kind": [
            Case(("plot", "kept", "-o", "a.svg"), ("--kind", "sizes"), observe.is_written("a.svg"), False, (PLOTTED,))
        ],
    },
    "report": {
        "folders": [Case(("report",), ("kept",), observe.is_written("kept/report.html"), True, (UNREPORTED,))],
        "out": [Case(("report", "kept"), ("-o", "page.html"), observe.is_written("page.html"), True, (UNREPORTED,))],
    },
    "regress": {
        "baseline": [
            Case(("regress", *HERE), ("base.json",), observe.in_stdout("base.json: 0 differences"), True, BASED)
        ],
        "update": [Case(("regress", "new.json"), ("--update", "kept"), observe.is_written("new.json"), True, BASED)],
        "model": [Case(REGRESS, ("-m", "llama"), observe.loader_argument("source"), "llama", BASED)],
        "data": [Case(REGRESS, ("--data", "hub"), observe.queries, [], BASED)],
        "data_dir": [Case(REGRESS, ("--data-dir", "other"), observe.queries, OTHER, BASED)],
        "include": [Case(("regress", "base.json"), HERE, observe.queries, QUERIES, BASED)],
        "device": [
            Case((*REGRESS, "-m", "llama"), ("--device", "cpu"), observe.device_on_a_gpu_machine, {"": CPU}, BASED)
        ],
        "trust_remote_code": [
            Case(
                (*REGRESS, "-m", "llama"),
                ("--trust-remote-code",),
                observe.loader_arguments("trust_remote_code"),
                TRUSTED,
                BASED,
            ),
            Case(
                REGRESS,
                ("--trust-remote-code",),
                observe.in_stdout("base.json: 0 differences"),
                True,
                (
                    (*TRUSTING, "--trust-remote-code", "--out", "kept"),
                    ("regress", "base.json", "--update", "kept", "--trust-remote-code"),
                ),
            ),
        ],
        "allow_pickle": [
            Case(
                (*REGRESS, "-m", "llama"), ("--allow-pickle",), observe.loader_argument("use_safetensors"), None, BASED
            )
        ],
    },
    "plan": {
        "tasks": [Case(PLAN, ("toy/pairs",), observe.in_stdout("requests         64, "), True)],
        "task": [Case(PLAN, ("-t", "toy/pairs"), observe.in_stdout("requests         64, "), True)],
        "model": [Case(("plan", *PARITY, *TOY), ("-m", "llama"), observe.loader_argument("source", "config"), "llama")],
        "tokenizer": [Case(PLAN, ("--tokenizer", "words"), observe.loader_argument("source", "tokenizer"), "words")],
        "shots": [Case(PLAN, ("--shots", "3"), observe.max_shots, 3)],
        "seeds": [Case((*PLAN, "--shots", "1"), ("--seeds", "5,7"), observe.drawn_seeds, {5, 7})],
        "prompts": [Case(PLAN, ("--prompt", "chatty"), observe.has_other_instruction, True)],
        "formats": [Case(PLAN, ("--formats", "2"), observe.in_requests("Q::"), True)],
        "budget": [
            Case(
                (*PLAN, "--shots", "0", "--formats", "20"), ("--budget", "40"), observe.distinct_queries_about_0, 2 * 3
            )
        ],
        "data": [
            Case(
                ("plan", *PARITY, *HERE, "-m", "llama", "--shots", "0"), ("--data", "sample"), observe.queries, QUERIES
            )
        ],
        "data_dir": [
            Case(
                ("plan", *PARITY, *HERE, "-m", "llama", "--shots", "0"), ("--data-dir", "other"), observe.queries, OTHER
            )
        ],
        "split": [Case(PLAN, ("--split", "train"), observe.queries, EXAMPLES)],
        "fewshot_split": [
            Case((*PLAN, "--shots", "7"), ("--fewshot-split", "validation"), observe.shown_demonstrations, QUERIES)
        ],
        "draw": [Case((*PLAN, "--shots", "1"), ("--draw", "first"), observe.shown_demonstrations, [100])],
        "select": [Case((*PLAN, "--shots", "1"), ("--select", "bm25"), observe.protocol_values("select"), {"bm25"})],
        "encoder": [
            Case((*PLAN, "--shots", "1", "--select", "knn"), ("--encoder", "tiny"), observe.loaded_encoders, {"tiny"})
        ],
        "per_shot_loss": [
            Case((*PLAN, "--shots", "1"), ("--per-shot-loss",), observe.in_stdout("40, 0 of them cached"), True)
        ],
        "order": [
            Case((*PLAN, "--shots", "2"), ("--order", "reversed"), observe.protocol_values("order"), {"reversed"})
        ],
        "labels": [
            Case((*PLAN, "--shots", "1"), ("--labels", "flipped"), observe.protocol_values("labels"), {"flipped"})
        ],
        "fewshot_ids": [Case(PLAN, ("--fewshot-ids", "103,101,102"), observe.shown_demonstrations, [101, 102, 103])],
        "limit": [Case(PLAN, ("--limit", "first:3"), observe.queries, [0, 1, 2])],
        "calibrate": [Case(PLAN, ("--calibrate", "contextual"), observe.in_requests("Q: [MASK]\n"), True)],
        "content_free": [
            Case((*PLAN, "--calibrate", "contextual"), ("--content-free", "-"), observe.in_requests("Q: -\n"), True)
        ],
        "overflow": [
            Case(
                (*PLAN, "--shots", "0", "--prompt", "chatty", "--max-length", "14"),
                ("--overflow", "truncate"),
                observe.in_stdout("requests "),
                True,
            )
        ],
        "decode": [
            Case(
                ("plan", "-t", "toy/written", "-m", "llama", *TOY),
                ("--decode", "max_tokens=2,beams=1"),
                observe.decodings,
                {(2, 1)},
            )
        ],
        "include": [
            Case(
                ("plan", "-t", "more/parity", "-m", "llama", *DATA, "--shots", "0"),
                ("--include", "more"),
                observe.queries,
                QUERIES,
            )
        ],
        "revision": [
            Case(
                (*PLAN, "-m", "org/name"),
                ("--revision", "r1"),
                observe.loader_arguments("revision"),
                {"tokenizer": "r1", "config": "r1"},
            )
        ],
        "dtype": [Case(PLAN, ("--dtype", "bfloat16"), observe.in_stdout("planned in bfloat16"), True)],
        "device": [Case(PLAN, ("--device", "cuda"), observe.in_stdout("rows on cuda"), True)],
        "detect": [Case(PLAN, ("--detect", "0.05"), observe.in_stdout(" 1,396  no "), True)],
        "from_": [
            Case(
                (*PLAN, "--shots", "0", "--detect", "0.05"), ("--from", "kept"), observe.in_stdout(MEASURED), True, TWO
            )
        ],
        "bos": [Case(PLAN, ("--bos", "yes"), observe.begins_with_bos, True)],
        "chat": [Case(PLAN, ("--chat",), observe.in_requests("<user>"), True)],
        "chat_args": [Case((*PLAN, "--chat"), ("--chat-args", "mood=calm"), observe.in_requests("(calm)"), True)],
        "chat_demonstrations": [
            Case(
                (*PLAN, "--shots", "1", "--chat"),
                ("--chat-demonstrations", "message"),
                observe.in_requests("\n\nQ: "),
                True,
            )
        ],
        "chat_instruction": [
            Case(
                (*PLAN, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                observe.in_requests("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [Case((*PLAN, "--shots", "8"), ("--max-length", "60"), observe.max_shots, 3)],
        "trust_remote_code": [
            Case(
                PLAN,
                ("--trust-remote-code",),
                observe.loader_arguments("trust_remote_code"),
                {"tokenizer": True, "config": True},
            ),
            Case(
                ("plan", "-m", "llama", "-t", "toy/trusting", *TOY),
                ("--trust-remote-code",),
                observe.in_stdout("requests "),
                True,
            ),
        ],
    },
    "contamination": {
        "task": [Case(("contamination", *TOY, *CORPUS), PARITY, observe.in_stdout("toy/parity"), True)],
        "text": [Case(("contamination", *PARITY, *TOY), CORPUS, observe.in_stdout("toy/parity"), True)],
        "text_field": [
            Case(
                ("contamination", *PARITY, *TOY, "--text", "corpus.jsonl"),
                ("--text-field", "said"),
                observe.in_stdout("12.5"),
                True,
            )
        ],
        "ngram": [Case(CONTAMINATION, ("--ngram", "11"), observe.in_stdout(" 11 "), True)],
        "out": [Case(CONTAMINATION, ("--out", "found.jsonl"), observe.is_written("found.jsonl"), True)],
        "data": [
            Case(("contamination", *PARITY, *HERE, *CORPUS), ("--data", "hub"), observe.in_stdout("toy/parity"), False)
        ],
        "data_dir": [
            Case(
                ("contamination", *PARITY, *HERE, *CORPUS),
                ("--data-dir", "nowhere"),
                observe.in_stdout("toy/parity"),
                False,
            )
        ],
        "include": [
            Case(
                ("contamination", "-t", "more/parity", *DATA, *CORPUS),
                ("--include", "more"),
                observe.in_stdout("more/parity"),
                True,
            )
        ],
        "split": [Case(CONTAMINATION, ("--split", "train"), observe.in_stdout(" 12 "), True)],
    },
    "orders": {
        "tasks": [Case(("orders", *TOY, "-m", "any", *PAIR), ("toy/pairs",), observe.max_shots, 1)],
        "task": [Case(("orders", *TOY, "-m", "any", *PAIR), ("-t", "toy/pairs"), observe.max_shots, 1)],
        "model": [Case(("orders", *PARITY, *TOY), ("-m", "llama"), observe.loader_argument("source"), "llama")],
        "data": [Case(("orders", *PARITY, *HERE, "-m", "any", *PAIR), ("--data", "sample"), observe.max_shots, 1)],
        "data_dir": [Case(("orders", *PARITY, *HERE, "-m", "any", *PAIR), DATA, observe.max_shots, 1)],
        "include": [
            Case(("orders", "more/parity", *DATA, "-m", "any", *PAIR), ("--include", "more"), observe.max_shots, 1)
        ],
        "shots": [Case(ORDERS, ("--shots", "3"), observe.max_shots, 2)],
        "seed": [Case(TWO_ORDERS, ("--seed", "6"), observe.drawn_seeds, {6})],
        "samples": [Case(TWO_ORDERS, ("--samples", "3"), observe.decoding("samples"), {3})],
        "temperature": [Case(TWO_ORDERS, ("--temperature", "0.5"), observe.decoding("temperature"), {0.5})],
        "prompts": [Case(TWO_ORDERS, ("--prompt", "chatty"), observe.has_other_instruction, True)],
        "fewshot_split": [
            Case(
                (*ORDERS, "--shots", "7"), ("--fewshot-split", "validation"), observe.shown_demonstrations, QUERIES[1:]
            )
        ],
        "draw": [Case(TWO_ORDERS, ("--draw", "first"), observe.shown_demonstrations, EXAMPLES[:2])],
        "select": [Case(TWO_ORDERS, ("--select", "diverse"), observe.protocol_values("select"), {"diverse"})],
        "encoder": [
            Case((*TWO_ORDERS, "--select", "diverse"), ("--encoder", "tiny"), observe.loaded_encoders, {"tiny"})
        ],
        "order": [Case(TWO_ORDERS, ("--order", "reversed"), observe.protocol_values("order"), {"reversed"})],
        "labels": [Case(TWO_ORDERS, ("--labels", "flipped"), observe.protocol_values("labels"), {"flipped"})],
        "fewshot_ids": [
            Case(ORDERS, ("--fewshot-ids", "103,101,102,104"), observe.shown_demonstrations, [101, 102, 103, 104])
        ],
        "revision": [
            Case(
                ("orders", *PARITY, *TOY, "-m", "org/name"),
                ("--revision", "r1"),
                observe.loader_arguments("revision"),
                AT_R1,
            )
        ],
        "tokenizer": [
            Case(FEW_ORDERS, ("--tokenizer", "words"), observe.loader_argument("source", "tokenizer"), "words")
        ],
        "dtype": [Case(FEW_ORDERS, ("--dtype", "bfloat16"), observe.loader_argument("dtype"), torch.bfloat16)],
        "bos": [Case(FEW_ORDERS, ("--bos", "yes"), observe.requests_begin_with_bos, True)],
        "max_length": [
            Case(FEW_ORDERS, ("--max-length", "20"), observe.in_stderr_of_real_model("context length is 20"), True)
        ],
        "quantize": [Case(FEW_ORDERS, ("--quantize", "8bit"), observe.is_quantized, True)],
        "trust_remote_code": [
            Case(FEW_ORDERS, ("--trust-remote-code",), observe.loader_arguments("trust_remote_code"), TRUSTED)
        ],
        "allow_pickle": [Case(FEW_ORDERS, ("--allow-pickle",), observe.loader_argument("use_safetensors"), None)],
        "device": [Case(FEW_ORDERS, ("--device", "cpu"), observe.device_on_a_gpu_machine, {"": CPU})],
    },
}


@pytest.fixture
def recorder(icl_eval: IclEval, library: Path, monkeypatch: pytest.MonkeyPatch) -> CommandRecorder:
    write_extra_files(library)
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", Path("data").resolve())
    monkeypatch.setattr("icl_eval.tasks.library.bundled", Path("bundled").resolve)  # few files, which load fast
    monkeypatch.setattr("icl_eval.analysis.scaling.RESAMPLES", 2)
    monkeypatch.setitem(sys.modules, "evaluate", SimpleNamespace(load=lambda *_, **__: SimpleNamespace(compute=agree)))
    return CommandRecorder(icl_eval, monkeypatch)


def agree(predictions: Any, references: Any) -> dict[str, float]:
    """A metric of the `evaluate` library, whose code is to be trusted."""
    return {"agreement": len(predictions) / len(references)}


def test_the_table_has_exactly_the_options_of_every_command() -> None:
    assert {name: {each.name for each in COMMANDS[name].params} for name in COMMANDS} == {
        name: {*options} for name, options in TABLE.items()
    }
    assert all(cases for options in TABLE.values() for cases in options.values())


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}-{option}-{number}")
        for name, options in TABLE.items()
        for option, cases in options.items()
        for number, case in enumerate(cases)
    ],
)
def test_option_arrives_where_it_acts(case: Case, recorder: CommandRecorder) -> None:
    for words in case.before:
        with recorder.patching():  # only for the files it writes
            recorder.requests(*words)

    without_option, with_option = (case.observe(recorder, *case.command, *option) for option in ((), case.option))
    assert with_option == case.expected, recorder.shell
    assert without_option != case.expected
