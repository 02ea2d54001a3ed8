"""Every option of every command arrives where it acts: in requests, loaders, clients, files or what is printed.

The table gives for each parameter a value other than the default, and what is then observed where it acts. Each
case is also run without the option, where something else must be seen.
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

from . import observations as see
from .bench import Bench, write_world
from .observations import See
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
    """What is seen of a command with an option.

    Attributes:
        command: the command line without the option.
        option: the words of the option.
        see: runs a command line and gives what arrived.
        expected: what arrives with the option.
        before: command lines that are run first.
    """

    command: tuple[str, ...]
    option: tuple[str, ...]
    see: See
    expected: Any
    before: tuple[tuple[str, ...], ...] = ()


TABLE: dict[str, dict[str, list[Case]]] = {
    "run": {
        "tasks": [Case(RUN, ("toy/pairs",), see.columns("task"), {("toy/pairs",), ("toy/parity",)})],
        "task": [Case(RUN, ("-t", "toy/pairs"), see.columns("task"), {("toy/pairs",), ("toy/parity",)})],
        "model": [
            Case(("run", *PARITY, *TOY), ("-m", "llama"), see.loader("source"), "llama"),
            Case(RUN, ("-m", "second"), see.printed("2 models ("), True),
        ],
        "shots": [Case((*ANY, *TOY), ("--shots", "3"), see.most_shots, 3)],
        "seeds": [Case(SHOT, ("--seeds", "5,7"), see.seeds, {5, 7})],
        "prompts": [Case(RUN, ("--prompt", "chatty"), see.is_instructed, True)],
        "formats": [Case(RUN, ("--formats", "2"), see.in_requests("Q::"), True)],
        "budget": [Case((*RUN, "--formats", "2"), ("--budget", "40"), see.printed("plain~f1-"), True)],
        "data": [Case((*ANY, *HERE, "--shots", "0"), ("--data", "sample"), see.queries, QUERIES)],
        "data_dir": [Case((*ANY, *HERE, "--shots", "0"), ("--data-dir", "other"), see.queries, OTHER)],
        "split": [Case(RUN, ("--split", "train"), see.queries, EXAMPLES)],
        "fewshot_split": [
            Case((*ANY, *TOY, "--shots", "7"), ("--fewshot-split", "validation"), see.demonstrated, QUERIES)
        ],
        "draw": [Case(SHOT, ("--draw", "first"), see.demonstrated, [100])],
        "select": [Case(SHOT, ("--select", "bm25"), see.protocol("select"), {"bm25"})],
        "encoder": [Case((*SHOT, "--select", "knn"), ("--encoder", "tiny"), see.encoders, {"tiny"})],
        "per_shot_loss": [
            Case(SHOT, ("--per-shot-loss",), see.columns("metric"), {("accuracy",), ("per_shot_loss",)}),
        ],
        "order": [Case((*ANY, *TOY, "--shots", "2"), ("--order", "reversed"), see.protocol("order"), {"reversed"})],
        "labels": [Case(SHOT, ("--labels", "flipped"), see.protocol("labels"), {"flipped"})],
        "fewshot_ids": [Case((*ANY, *TOY), ("--fewshot-ids", "103,101,102"), see.demonstrated, [101, 102, 103])],
        "limit": [Case(RUN, ("--limit", "first:3"), see.queries, [0, 1, 2])],
        "calibrate": [Case(RUN, ("--calibrate", "contextual"), see.in_requests("Q: [MASK]\n"), True)],
        "content_free": [
            Case((*RUN, "--calibrate", "contextual"), ("--content-free", "-,?"), see.in_requests("Q: ?\n"), True)
        ],
        "until": [Case(RUN, ("--until", "0.1"), see.printed("toy/parity: all 8 examples were evaluated before"), True)],
        "normalizations": [
            Case(RUN, ("--normalization", "sum,byte"), see.columns("normalization"), {("sum",), ("byte",)}),
            Case(SWEEP, ("--normalization", "sum,byte"), see.columns("normalization"), {("sum",), ("byte",)}),
        ],
        "metrics": [
            Case(RUN, ("--metrics", "macro_f1"), see.columns("metric"), {("macro_f1",)}),
            Case(SWEEP, ("--metrics", "macro_f1"), see.columns("metric"), {("macro_f1",)}),
        ],
        "overflow": [Case((*RUN, "--prompt", "chatty"), ("--overflow", "truncate"), see.fits_no_query, True)],
        "decode": [
            Case(
                ("run", "-m", "any", "-t", "toy/written", *TOY),
                ("--decode", "max_tokens=2,beams=1"),
                see.decodings,
                {(2, 1)},
            )
        ],
        "out": [
            Case(RUN, ("--out", "kept"), see.is_file("kept/scores.json"), True),
            Case(SWEEP, ("--out", "kept"), see.is_file("kept/sweep.json"), True),
        ],
        "no_report": [
            Case(KEPT, ("--no-report",), see.is_file("kept/report.html"), False),
            Case((*SWEEP, "--out", "kept"), ("--no-report",), see.is_file("kept/report.html"), False),
        ],
        "categories": [
            Case((*PARTS, *also), ("--categories",), see.printed(" 107 "), True) for also in ((), ("-m", "second"))
        ],
        "columns": [Case(command, ("--columns", "ties"), see.printed(" ties"), True) for command in (RUN, SWEEP)],
        "signatures": [Case(command, ("--signatures",), see.printed("|plain|k0|"), True) for command in (RUN, SWEEP)],
        "format": [
            Case(RUN, ("--format", "json"), see.printed('"scores": ['), True),
            Case(SWEEP, ("--format", "json"), see.printed('"models": ['), True),
        ],
        "include": [
            Case(
                ("run", "-m", "any", "-t", "more/parity", *DATA, "--shots", "0"),
                ("--include", "more"),
                see.queries,
                QUERIES,
            )
        ],
        "revision": [
            Case(HUB, ("--revision", "r1"), see.loaders("revision"), AT_R1),
            Case(RUN, ("--revision", "r1,r2"), see.columns("revision"), {("r1",), ("r2",)}),
        ],
        "dtype": [Case(LOAD, ("--dtype", "bfloat16"), see.loader("dtype"), torch.bfloat16)],
        "device": [Case(LOAD, ("--device", "cpu"), see.device_beside_a_gpu, {"": CPU})],
        "bos": [Case(LOAD, ("--bos", "yes"), see.rows_begin_with_bos, True)],
        "chat": [Case(RUN, ("--chat",), see.in_requests("<user>"), True)],
        "chat_args": [Case((*RUN, "--chat"), ("--chat-args", "mood=calm"), see.in_requests("(calm)"), True)],
        "chat_demonstrations": [
            Case((*SHOT, "--chat"), ("--chat-demonstrations", "message"), see.in_requests("\n\nQ: "), True)
        ],
        "chat_instruction": [
            Case(
                (*RUN, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                see.in_requests("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [Case((*LOAD, "--shots", "8"), ("--max-length", "60"), see.fitted_shots, {3})],
        "trust_remote_code": [
            Case(
                LOAD,
                ("--trust-remote-code",),
                see.loaders("trust_remote_code"),
                TRUSTED,
            ),
            Case(TRUSTING, ("--trust-remote-code",), see.columns("metric"), {("evaluate:agreement",)}),
        ],
        "allow_pickle": [Case(LOAD, ("--allow-pickle",), see.loader("use_safetensors"), None)],
        "quantize": [Case(LOAD, ("--quantize", "8bit"), see.is_quantized, True)],
        "device_map": [Case(LOAD, ("--device-map", "sequential"), see.loader("device_map"), "sequential")],
        "max_memory": [Case(MAPPED, ("--max-memory", "cpu=2GB"), see.loader("max_memory"), {"cpu": "2GB"})],
        "offload_dir": [Case(MAPPED, ("--offload-dir", "spill"), see.loader("offload_folder"), "spill")],
        "tensor_parallel": [Case(LOAD, ("--tensor-parallel",), see.division, "auto")],
        "attn": [Case(LOAD, ("--attn", "eager"), see.loader("attn_implementation"), "eager")],
        "pll": [Case(LOAD, ("--pll", "plain"), see.most_masks, 1)],
        "tokenizer": [Case(LOAD, ("--tokenizer", "words"), see.loader("source", "tokenizer"), "words")],
        "served_name": [Case(SERVED, ("--served-name", "second"), see.asked_models, {"second"})],
        "concurrency": [
            Case(SERVED, ("--concurrency", "3"), see.client(lambda given: given["limits"].max_connections), {3})
        ],
        "timeout": [Case(SERVED, ("--timeout", "7"), see.client(lambda given: given["timeout"].read), {7.0})],
        "retries": [Case(SERVED, ("--retries", "1"), see.attempts, 2)],
        "explain": [
            Case(RUN, ("--explain",), see.answers_and_first_word, (0, "requests")),
            Case(SWEEP, ("--explain",), see.answers_and_first_word, (0, "any")),
        ],
        "processes": [Case(RUN, ("--processes", "3"), see.launched, [(3, False)])],
    },
    "list": {
        "match": [Case(("list", *HERE), ("toy/pairs",), see.lines, 1)],
        "include": [Case(("list", "toy/pairs"), HERE, see.lines, 1)],
        "reference": [Case(("list",), ("--reference", "gpt3:LAMBADA"), see.first_word, "gpt3:LAMBADA")],
    },
    "show": {
        "tasks": [Case(("show", *TOY), ("toy/pairs",), see.printed("\ntoy/pairs, prompt plain"), True)],
        "task": [Case(("show", *TOY), ("-t", "toy/pairs"), see.printed("\ntoy/pairs, prompt plain"), True)],
        "shots": [Case(SHOW, ("--shots", "3"), see.printed("3 of 3 demonstrations"), True)],
        "prompt": [Case(SHOW, ("--prompt", "chatty"), see.printed("Even or odd?"), True)],
        "example": [Case(SHOW, ("--example", "5"), see.printed("Q: 5\nA:⟦ odd⟧"), True)],
        "seed": [Case(SHOW, ("--seed", "6"), see.seeds, {6})],
        "model": [Case(SHOW, ("-m", "llama"), see.loader("source"), "llama")],
        "data": [
            Case(("show", "toy/parity", *HERE, "-m", "any"), ("--data", "sample"), see.printed("Q: 0\nA:⟦"), True)
        ],
        "data_dir": [Case(("show", "toy/parity", *HERE), ("--data-dir", "other"), see.printed("Q: 200\nA:⟦"), True)],
        "split": [Case(SHOW, ("--split", "train"), see.printed("Q: 100\nA:⟦"), True)],
        "fewshot_split": [
            Case((*SHOW, "--shots", "7"), ("--fewshot-split", "validation"), see.printed("Q: 1\nA: odd"), True)
        ],
        "draw": [Case(SHOW, ("--draw", "first"), see.printed("Q: 100\nA: even\n\nQ: 101\nA: odd\n\nQ"), True)],
        "select": [Case(SHOW, ("--select", "bm25"), see.protocol("select"), {"bm25"})],
        "encoder": [Case((*SHOW, "--select", "knn"), ("--encoder", "tiny"), see.encoders, {"tiny"})],
        "formats": [Case(SHOW, ("--formats", "2"), see.printed("plain~f1: separator"), True)],
        "order": [Case(SHOW, ("--order", "reversed"), see.protocol("order"), {"reversed"})],
        "labels": [Case(SHOW, ("--labels", "flipped"), see.protocol("labels"), {"flipped"})],
        "fewshot_ids": [Case(SHOW, ("--fewshot-ids", "103,101,102"), see.printed("3 of 3 demonstrations"), True)],
        "include": [
            Case(
                ("show", "more/parity", *DATA), ("--include", "more"), see.printed("\nmore/parity, prompt plain"), True
            )
        ],
        "tokenizer": [
            Case((*SHOW, "-m", "llama"), ("--tokenizer", "words"), see.loader("source", "tokenizer"), "words")
        ],
        "revision": [
            Case(
                (*SHOW, "-m", "org/name"),
                ("--revision", "r1"),
                see.loaders("revision"),
                AT_R1,
            )
        ],
        "bos": [Case((*SHOW, "-m", "llama", "--tokens"), ("--bos", "yes"), see.computed("<s>│"), True)],
        "chat": [Case(SHOW, ("--chat",), see.printed("<user>"), True)],
        "chat_args": [Case((*SHOW, "--chat"), ("--chat-args", "mood=calm"), see.printed("(calm)"), True)],
        "chat_demonstrations": [
            Case((*SHOW, "--chat"), ("--chat-demonstrations", "message"), see.printed("\n\nQ: "), True)
        ],
        "chat_instruction": [
            Case(
                (*SHOW, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                see.printed("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [Case((*SHOW, "-m", "llama"), ("--max-length", "100"), see.computed("of 100 tokens"), True)],
        "tokens": [Case(SHOW, ("--tokens",), see.printed("Q│:│"), True)],
    },
    "check": {
        "tasks": [Case(CHECK, ("toy/pairs",), see.lines, 2)],
        "task": [Case(CHECK, ("--task", "toy/pairs,toy/parity"), see.lines, 2)],
        "data": [Case(("check", "toy/parity", *HERE), ("--data", "hub"), see.printed("ok "), False)],
        "data_dir": [Case(("check", "toy/parity", *HERE), ("--data-dir", "gone"), see.printed("ok "), False)],
        "split": [
            Case(CHECK, ("--split", "train"), see.printed("ok toy/parity: 12 examples"), True),
            Case((*CHECK, "-m", "llama"), ("--split", "train"), see.measured, EXAMPLES),
        ],
        "fewshot_split": [
            Case(CHECK, ("--fewshot-split", "validation"), see.printed("8 candidate demonstrations"), True)
        ],
        "include": [Case(("check", "more/parity", *DATA), ("--include", "more"), see.printed("ok more/parity"), True)],
        "model": [Case(CHECK, ("-m", "llama"), see.loader("source", "config"), "llama")],
        "tokenizer": [
            Case((*CHECK, "-m", "llama"), ("--tokenizer", "words"), see.loader("source", "tokenizer"), "words")
        ],
        "revision": [
            Case(
                (*CHECK, "-m", "org/name"),
                ("--revision", "r1"),
                see.loaders("revision"),
                {"tokenizer": "r1", "config": "r1"},
            )
        ],
        "bos": [Case((*CHECK, "-m", "llama", "--max-length", "25"), ("--bos", "yes"), see.printed("ok "), False)],
        "chat": [Case((*CHECK, "-m", "llama", "--max-length", "25"), ("--chat",), see.printed("ok "), False)],
        "chat_args": [Case((*CHAT, "--max-length", "50"), ("--chat-args", "mood=calm"), see.printed("ok "), False)],
        "chat_instruction": [
            Case((*CHAT, "--max-length", "44"), ("--chat-instruction", "user"), see.printed("ok "), True)
        ],
        "max_length": [Case((*CHECK, "-m", "llama"), ("--max-length", "9"), see.printed("ok "), False)],
        "trust_remote_code": [
            Case(
                (*CHECK, "-m", "llama"),
                ("--trust-remote-code",),
                see.loaders("trust_remote_code"),
                {"tokenizer": True, "config": True},
            ),
            Case(("check", "toy/trusting", *TOY), ("--trust-remote-code",), see.loaded_metrics, {"agreement"}),
        ],
    },
    "rescore": {
        "folder": [Case(("rescore",), ("kept",), see.printed("toy/parity"), True, before=(UNREPORTED,))],
        "normalizations": [
            Case(
                ("rescore", "kept"),
                ("--normalization", "sum"),
                see.columns("normalization"),
                {("sum",)},
                before=(UNREPORTED,),
            ),
            Case(
                ("rescore", "kept"),
                ("--normalization", "sum"),
                see.columns("normalization"),
                {("sum",)},
                before=((*SWEEP, "--out", "kept"),),
            ),
        ],
        "metrics": [
            Case(
                ("rescore", "kept"),
                ("--metrics", "macro_f1"),
                see.columns("metric"),
                {("macro_f1",)},
                before=(UNREPORTED,),
            ),
            Case(
                ("rescore", "kept"),
                ("--metrics", "macro_f1"),
                see.columns("metric"),
                {("macro_f1",)},
                before=((*SWEEP, "--out", "kept"),),
            ),
        ],
        "extract": [
            Case(
                ("rescore", "kept"),
                ("--extract", "rules.yaml"),
                see.columns("metric"),
                {("squad_em@last",)},
                before=(("run", "-m", "any", "-t", "toy/written", *TOY, "--out", "kept"),),
            )
        ],
        "no_report": [
            Case(("rescore", "kept"), ("--no-report",), see.is_file("kept/report.html"), False, (UNREPORTED,))
        ],
        "categories": [
            Case(("rescore", "kept"), ("--categories",), see.printed(" 107 "), True, ((*PARTS, "--out", "kept"),))
        ],
        "reasoning_end": [
            Case(
                ("rescore", "kept"),
                ("--reasoning-end", "</think>"),
                see.printed("8 texts have no answer, as the reasoning does not end"),
                True,
                before=(("run", "-m", "any", "-t", "toy/written", *TOY, "--out", "kept"),),
            )
        ],
        "contamination": [
            Case(
                ("rescore", "kept"),
                ("--contamination", "contamination.jsonl"),
                see.printed(" dirty"),
                True,
                (UNREPORTED, CONTAMINATION),
            )
        ],
        "columns": [Case(("rescore", "kept"), ("--columns", "ties"), see.printed(" ties"), True, before=(UNREPORTED,))],
        "signatures": [
            Case(("rescore", "kept"), ("--signatures",), see.printed("|plain|k0|"), True, before=(UNREPORTED,))
        ],
        "format": [
            Case(("rescore", "kept"), ("--format", "json"), see.printed('"scores": ['), True, before=(UNREPORTED,))
        ],
        "trust_remote_code": [
            Case(
                ("rescore", "kept"),
                ("--trust-remote-code",),
                see.columns("metric"),
                {("evaluate:agreement",)},
                before=((*TRUSTING, "--trust-remote-code", *out, "--out", "kept"),),
            )
            for out in ((), ("-m", "second"))
        ],
    },
    "compare": {
        "folder": [Case(("compare", "second"), ("kept",), see.printed("toy/parity"), True, TWO)],
        "others": [Case(("compare", "kept"), ("second",), see.printed("toy/parity"), True, TWO)],
        "normalizations": [Case(COMPARE, ("--normalization", "sum"), see.columns("normalization"), {("sum",)}, TWO)],
        "metrics": [Case(COMPARE, ("--metrics", "macro_f1"), see.columns("metric"), {("macro_f1",)}, TWO)],
        "no_report": [Case(COMPARE, ("--no-report",), see.is_file("second/compared-with-kept.html"), False, TWO)],
        "categories": [
            Case(
                COMPARE,
                ("--categories",),
                see.printed(" 107 "),
                True,
                tuple((*PARTS, "--out", name) for name in ("kept", "second")),
            )
        ],
        "columns": [Case(COMPARE, ("--columns", "eff. shots,scoring"), see.printed(" scoring"), True, TWO)],
        "signatures": [Case(COMPARE, ("--signatures",), see.printed("|plain|k0|"), True, TWO)],
        "format": [Case(COMPARE, ("--format", "json"), see.printed('"task": "toy/parity"'), True, TWO)],
        "trust_remote_code": [
            Case(
                COMPARE,
                ("--trust-remote-code",),
                see.columns("metric"),
                {("evaluate:agreement",)},
                tuple((*TRUSTING, "--trust-remote-code", "--out", name) for name in ("kept", "second")),
            )
        ],
    },
    "fit": {
        "folders": [Case(("fit", "--by", "steps"), ("kept",), see.printed("3 models by training steps"), True, FITTED)],
        "by": [Case(("fit", "kept"), ("--by", "steps"), see.printed("3 models by training steps"), True, FITTED)],
        "tokens": [
            Case(
                ("fit", "kept", "--by", "tokens"),
                ("--tokens", "fake@step1=1e9,fake@step2=2e9,fake@step4=4e9"),
                see.printed("fake@step4 4B"),
                True,
                FITTED,
            )
        ],
        "tokens_per_step": [
            Case(
                ("fit", "kept", "--by", "tokens"),
                ("--tokens-per-step", "1000"),
                see.printed("fake@step4 4k"),
                True,
                FITTED,
            )
        ],
        "irreducible": [Case(FIT, ("--irreducible", "yes"), see.columns("held_out"), {("",)}, FITTED)],
        "normalizations": [Case(FIT, ("--normalization", "sum"), see.columns("normalization"), {("sum",)}, FITTED)],
        "metrics": [Case(FIT, ("--metrics", "macro_f1"), see.columns("metric"), {("macro_f1",)}, FITTED)],
        "columns": [Case(FIT, ("--columns", "exponent"), see.printed("measured"), False, FITTED)],
        "format": [Case(FIT, ("--format", "json"), see.printed('"fits"'), True, FITTED)],
        "trust_remote_code": [
            Case(
                FIT,
                ("--trust-remote-code",),
                see.complained("the metric has no bounds"),
                True,
                ((*TRUSTING, "--trust-remote-code", *STEPS),),
            )
        ],
    },
    "examples": {
        "folder": [Case(("examples",), ("kept",), see.printed("toy/parity"), True, (UNREPORTED,))],
        "wrong": [Case(SEEN, ("--wrong",), see.printed(": right"), False, (UNREPORTED,))],
        "right": [Case(SEEN, ("--right",), see.printed(": wrong"), False, (UNREPORTED,))],
        "flips": [Case(SEEN, ("--flips", "second"), see.printed("example "), False, TWO)],
        "sort": [Case((*SEEN, "--limit", "1"), ("--sort", "loss"), see.printed(": right"), False, (UNREPORTED,))],
        "prompt": [Case(SEEN, ("--prompt",), see.printed("Q: 0\nA:"), True, (UNREPORTED,))],
        "limit": [Case(("examples", "kept"), ("--limit", "1"), see.printed("example 1:"), False, (UNREPORTED,))],
        "as_json": [Case(SEEN, ("--json",), see.printed('"p_token"'), True, (UNREPORTED,))],
        "task": [
            Case(SEEN, ("-t", "toy/pairs"), see.printed("toy/parity"), False, ((*UNREPORTED, "-t", "toy/pairs"),))
        ],
        "shots": [
            Case(SEEN, ("--shots", "1"), see.printed("0 shots"), False, ((*SHOTS, "--out", "kept", "--no-report"),))
        ],
        "seed": [
            Case(SEEN, ("--seed", "1"), see.printed("seed 0"), False, ((*SHOTS, "--out", "kept", "--no-report"),))
        ],
        "id": [Case(SEEN, ("--id", "3"), see.printed("example 0:"), False, (UNREPORTED,))],
    },
    "import": {
        "harness": [Case(("import",), ("lm-eval", *HARNESS), see.printed("lm-eval/birds: whole"), True)],
        "files": [
            Case(("import", "lm-eval", "--out", "o"), ("birds.yaml",), see.printed("lm-eval/birds: whole"), True)
        ],
        "folder": [Case(("import", "lm-eval", "birds.yaml"), ("--out", "o"), see.printed("birds: whole"), True)],
        "data": [Case(IMPORT, ("--data", "hub"), see.printed("--data hub or --data-dir gives"), False)],
        "data_dir": [Case(IMPORT, DATA, see.printed("--data hub or --data-dir gives"), False)],
        "trust_remote_code": [
            Case(
                ("import", "lm-eval", "code.yaml", "--out", "o"),
                ("--trust-remote-code",),
                see.complained("--trust-remote-code runs it"),
                False,
            )
        ],
    },
    "plot": {
        "folders": [Case(("plot", "-o", "a.svg"), ("kept",), see.is_file("a.svg"), True, (PLOTTED,))],
        "out": [Case(("plot", "kept"), ("-o", "a.svg"), see.is_file("a.svg"), True, (PLOTTED,))],
        "kind": [Case(("plot", "kept", "-o", "a.svg"), ("--kind", "sizes"), see.is_file("a.svg"), False, (PLOTTED,))],
    },
    "report": {
        "folders": [Case(("report",), ("kept",), see.is_file("kept/report.html"), True, (UNREPORTED,))],
        "out": [Case(("report", "kept"), ("-o", "page.html"), see.is_file("page.html"), True, (UNREPORTED,))],
    },
    "regress": {
        "baseline": [Case(("regress", *HERE), ("base.json",), see.printed("base.json: 0 differences"), True, BASED)],
        "update": [Case(("regress", "new.json"), ("--update", "kept"), see.is_file("new.json"), True, BASED)],
        "model": [Case(REGRESS, ("-m", "llama"), see.loader("source"), "llama", BASED)],
        "data": [Case(REGRESS, ("--data", "hub"), see.queries, [], BASED)],
        "data_dir": [Case(REGRESS, ("--data-dir", "other"), see.queries, OTHER, BASED)],
        "include": [Case(("regress", "base.json"), HERE, see.queries, QUERIES, BASED)],
        "device": [Case((*REGRESS, "-m", "llama"), ("--device", "cpu"), see.device_beside_a_gpu, {"": CPU}, BASED)],
        "trust_remote_code": [
            Case((*REGRESS, "-m", "llama"), ("--trust-remote-code",), see.loaders("trust_remote_code"), TRUSTED, BASED),
            Case(
                REGRESS,
                ("--trust-remote-code",),
                see.printed("base.json: 0 differences"),
                True,
                (
                    (*TRUSTING, "--trust-remote-code", "--out", "kept"),
                    ("regress", "base.json", "--update", "kept", "--trust-remote-code"),
                ),
            ),
        ],
        "allow_pickle": [
            Case((*REGRESS, "-m", "llama"), ("--allow-pickle",), see.loader("use_safetensors"), None, BASED)
        ],
    },
    "plan": {
        "tasks": [Case(PLAN, ("toy/pairs",), see.printed("requests         64, "), True)],
        "task": [Case(PLAN, ("-t", "toy/pairs"), see.printed("requests         64, "), True)],
        "model": [Case(("plan", *PARITY, *TOY), ("-m", "llama"), see.loader("source", "config"), "llama")],
        "tokenizer": [Case(PLAN, ("--tokenizer", "words"), see.loader("source", "tokenizer"), "words")],
        "shots": [Case(PLAN, ("--shots", "3"), see.most_shots, 3)],
        "seeds": [Case((*PLAN, "--shots", "1"), ("--seeds", "5,7"), see.seeds, {5, 7})],
        "prompts": [Case(PLAN, ("--prompt", "chatty"), see.is_instructed, True)],
        "formats": [Case(PLAN, ("--formats", "2"), see.in_requests("Q::"), True)],
        "budget": [Case((*PLAN, "--shots", "0", "--formats", "20"), ("--budget", "40"), see.questions, 2 * 3)],
        "data": [
            Case(("plan", *PARITY, *HERE, "-m", "llama", "--shots", "0"), ("--data", "sample"), see.queries, QUERIES)
        ],
        "data_dir": [
            Case(("plan", *PARITY, *HERE, "-m", "llama", "--shots", "0"), ("--data-dir", "other"), see.queries, OTHER)
        ],
        "split": [Case(PLAN, ("--split", "train"), see.queries, EXAMPLES)],
        "fewshot_split": [Case((*PLAN, "--shots", "7"), ("--fewshot-split", "validation"), see.demonstrated, QUERIES)],
        "draw": [Case((*PLAN, "--shots", "1"), ("--draw", "first"), see.demonstrated, [100])],
        "select": [Case((*PLAN, "--shots", "1"), ("--select", "bm25"), see.protocol("select"), {"bm25"})],
        "encoder": [Case((*PLAN, "--shots", "1", "--select", "knn"), ("--encoder", "tiny"), see.encoders, {"tiny"})],
        "per_shot_loss": [
            Case((*PLAN, "--shots", "1"), ("--per-shot-loss",), see.printed("40, 0 of them cached"), True)
        ],
        "order": [Case((*PLAN, "--shots", "2"), ("--order", "reversed"), see.protocol("order"), {"reversed"})],
        "labels": [Case((*PLAN, "--shots", "1"), ("--labels", "flipped"), see.protocol("labels"), {"flipped"})],
        "fewshot_ids": [Case(PLAN, ("--fewshot-ids", "103,101,102"), see.demonstrated, [101, 102, 103])],
        "limit": [Case(PLAN, ("--limit", "first:3"), see.queries, [0, 1, 2])],
        "calibrate": [Case(PLAN, ("--calibrate", "contextual"), see.in_requests("Q: [MASK]\n"), True)],
        "content_free": [
            Case((*PLAN, "--calibrate", "contextual"), ("--content-free", "-"), see.in_requests("Q: -\n"), True)
        ],
        "overflow": [
            Case(
                (*PLAN, "--shots", "0", "--prompt", "chatty", "--max-length", "14"),
                ("--overflow", "truncate"),
                see.printed("requests "),
                True,
            )
        ],
        "decode": [
            Case(
                ("plan", "-t", "toy/written", "-m", "llama", *TOY),
                ("--decode", "max_tokens=2,beams=1"),
                see.decodings,
                {(2, 1)},
            )
        ],
        "include": [
            Case(
                ("plan", "-t", "more/parity", "-m", "llama", *DATA, "--shots", "0"),
                ("--include", "more"),
                see.queries,
                QUERIES,
            )
        ],
        "revision": [
            Case(
                (*PLAN, "-m", "org/name"),
                ("--revision", "r1"),
                see.loaders("revision"),
                {"tokenizer": "r1", "config": "r1"},
            )
        ],
        "dtype": [Case(PLAN, ("--dtype", "bfloat16"), see.printed("planned in bfloat16"), True)],
        "device": [Case(PLAN, ("--device", "cuda"), see.printed("rows for cuda"), True)],
        "detect": [Case(PLAN, ("--detect", "0.05"), see.printed(" 1,396  no "), True)],
        "from_": [
            Case((*PLAN, "--shots", "0", "--detect", "0.05"), ("--from", "kept"), see.printed(MEASURED), True, TWO)
        ],
        "bos": [Case(PLAN, ("--bos", "yes"), see.begins_with_bos, True)],
        "chat": [Case(PLAN, ("--chat",), see.in_requests("<user>"), True)],
        "chat_args": [Case((*PLAN, "--chat"), ("--chat-args", "mood=calm"), see.in_requests("(calm)"), True)],
        "chat_demonstrations": [
            Case(
                (*PLAN, "--shots", "1", "--chat"),
                ("--chat-demonstrations", "message"),
                see.in_requests("\n\nQ: "),
                True,
            )
        ],
        "chat_instruction": [
            Case(
                (*PLAN, "--chat", "--prompt", "chatty"),
                ("--chat-instruction", "user"),
                see.in_requests("<user>Even or odd?"),
                True,
            )
        ],
        "max_length": [Case((*PLAN, "--shots", "8"), ("--max-length", "60"), see.most_shots, 3)],
        "trust_remote_code": [
            Case(
                PLAN,
                ("--trust-remote-code",),
                see.loaders("trust_remote_code"),
                {"tokenizer": True, "config": True},
            ),
            Case(
                ("plan", "-m", "llama", "-t", "toy/trusting", *TOY),
                ("--trust-remote-code",),
                see.printed("requests "),
                True,
            ),
        ],
    },
    "contamination": {
        "task": [Case(("contamination", *TOY, *CORPUS), PARITY, see.printed("toy/parity"), True)],
        "text": [Case(("contamination", *PARITY, *TOY), CORPUS, see.printed("toy/parity"), True)],
        "text_field": [
            Case(
                ("contamination", *PARITY, *TOY, "--text", "corpus.jsonl"),
                ("--text-field", "said"),
                see.printed("12.5"),
                True,
            )
        ],
        "ngram": [Case(CONTAMINATION, ("--ngram", "11"), see.printed(" 11 "), True)],
        "out": [Case(CONTAMINATION, ("--out", "found.jsonl"), see.is_file("found.jsonl"), True)],
        "data": [Case(("contamination", *PARITY, *HERE, *CORPUS), ("--data", "hub"), see.printed("toy/parity"), False)],
        "data_dir": [
            Case(
                ("contamination", *PARITY, *HERE, *CORPUS), ("--data-dir", "nowhere"), see.printed("toy/parity"), False
            )
        ],
        "include": [
            Case(
                ("contamination", "-t", "more/parity", *DATA, *CORPUS),
                ("--include", "more"),
                see.printed("more/parity"),
                True,
            )
        ],
        "split": [Case(CONTAMINATION, ("--split", "train"), see.printed(" 12 "), True)],
    },
    "orders": {
        "tasks": [Case(("orders", *TOY, "-m", "any", *PAIR), ("toy/pairs",), see.most_shots, 1)],
        "task": [Case(("orders", *TOY, "-m", "any", *PAIR), ("-t", "toy/pairs"), see.most_shots, 1)],
        "model": [Case(("orders", *PARITY, *TOY), ("-m", "llama"), see.loader("source"), "llama")],
        "data": [Case(("orders", *PARITY, *HERE, "-m", "any", *PAIR), ("--data", "sample"), see.most_shots, 1)],
        "data_dir": [Case(("orders", *PARITY, *HERE, "-m", "any", *PAIR), DATA, see.most_shots, 1)],
        "include": [
            Case(("orders", "more/parity", *DATA, "-m", "any", *PAIR), ("--include", "more"), see.most_shots, 1)
        ],
        "shots": [Case(ORDERS, ("--shots", "3"), see.most_shots, 2)],
        "seed": [Case(TWO_ORDERS, ("--seed", "6"), see.seeds, {6})],
        "samples": [Case(TWO_ORDERS, ("--samples", "3"), see.decoding("samples"), {3})],
        "temperature": [Case(TWO_ORDERS, ("--temperature", "0.5"), see.decoding("temperature"), {0.5})],
        "prompts": [Case(TWO_ORDERS, ("--prompt", "chatty"), see.is_instructed, True)],
        "fewshot_split": [
            Case((*ORDERS, "--shots", "7"), ("--fewshot-split", "validation"), see.demonstrated, QUERIES[1:])
        ],
        "draw": [Case(TWO_ORDERS, ("--draw", "first"), see.demonstrated, EXAMPLES[:2])],
        "select": [Case(TWO_ORDERS, ("--select", "diverse"), see.protocol("select"), {"diverse"})],
        "encoder": [Case((*TWO_ORDERS, "--select", "diverse"), ("--encoder", "tiny"), see.encoders, {"tiny"})],
        "order": [Case(TWO_ORDERS, ("--order", "reversed"), see.protocol("order"), {"reversed"})],
        "labels": [Case(TWO_ORDERS, ("--labels", "flipped"), see.protocol("labels"), {"flipped"})],
        "fewshot_ids": [Case(ORDERS, ("--fewshot-ids", "103,101,102,104"), see.demonstrated, [101, 102, 103, 104])],
        "revision": [
            Case(("orders", *PARITY, *TOY, "-m", "org/name"), ("--revision", "r1"), see.loaders("revision"), AT_R1)
        ],
        "tokenizer": [Case(FEW_ORDERS, ("--tokenizer", "words"), see.loader("source", "tokenizer"), "words")],
        "dtype": [Case(FEW_ORDERS, ("--dtype", "bfloat16"), see.loader("dtype"), torch.bfloat16)],
        "bos": [Case(FEW_ORDERS, ("--bos", "yes"), see.requests_begin_with_bos, True)],
        "max_length": [Case(FEW_ORDERS, ("--max-length", "20"), see.refused("context length is 20"), True)],
        "quantize": [Case(FEW_ORDERS, ("--quantize", "8bit"), see.is_quantized, True)],
        "trust_remote_code": [Case(FEW_ORDERS, ("--trust-remote-code",), see.loaders("trust_remote_code"), TRUSTED)],
        "allow_pickle": [Case(FEW_ORDERS, ("--allow-pickle",), see.loader("use_safetensors"), None)],
        "device": [Case(FEW_ORDERS, ("--device", "cpu"), see.device_beside_a_gpu, {"": CPU})],
    },
}


@pytest.fixture
def bench(icl_eval: IclEval, library: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    write_world(library)
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", Path("data").resolve())
    monkeypatch.setattr("icl_eval.tasks.library.bundled", Path("bundled").resolve)  # few files, which load fast
    monkeypatch.setattr("icl_eval.analysis.scaling.RESAMPLES", 2)
    monkeypatch.setitem(sys.modules, "evaluate", SimpleNamespace(load=lambda *_, **__: SimpleNamespace(compute=agree)))
    return Bench(icl_eval, monkeypatch)


def agree(predictions: Any, references: Any) -> dict[str, float]:
    """A metric of the `evaluate` library, whose code is to be trusted."""
    return {"agreement": len(predictions) / len(references)}


def test_the_table_has_every_option_of_every_command_and_no_other() -> None:
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
def test_every_option_arrives_where_it_acts(case: Case, bench: Bench) -> None:
    for words in case.before:
        with bench.watched():  # for what it leaves in the folder
            bench.requests(*words)

    without, given = (case.see(bench, *case.command, *option) for option in ((), case.option))
    assert given == case.expected, bench.shell
    assert without != case.expected
