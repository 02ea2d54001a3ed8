"""Two processes on a CPU, each with half of every layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import icl_eval
from icl_eval import sweep
from icl_eval.engine import Engine
from icl_eval.errors import ModelError, RunError
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, load_model

from .architectures import build
from .checkpoints import byte_tokenizer
from .kinds import build as build_kind
from .kinds import tokenizer_for
from .reference import random_requests

ROOT = Path(icl_eval.__file__).parent.parent
SCRIPT = """
import json, sys
import torch
from icl_eval.engine import Engine
from icl_eval.models import Decoding, GenerateRequest, ScoreRequest, load_model
torch.set_num_threads(1)
path, dtype, request_file, found = sys.argv[1:]
lm = load_model(path, tensor_parallel=True, dtype=dtype)
requests = json.loads(open(request_file).read())
texts = {}
generations = [GenerateRequest.of(each, Decoding(6, beams=2)) for each in requests["prompts"]]
lm.generate(generations, lambda index, answer: texts.__setitem__(index, answer))
answers = Engine(lm).answer([ScoreRequest.of(*each) for each in requests["scored"]])
decoder = type(lm.generation.decoders((0, 0))).__name__
weight = lm.model.model.layers[0].mlp.up_proj.weight
with open(found, "x") as file:  # by one process alone
    json.dump({
        "logprobs": [each.logprobs for each in answers],
        "texts": [[texts[index].texts, texts[index].scores] for index in range(len(texts))],
        "paths": [lm.shares_prefixes, lm.has_tree_attention, lm.caches_prefixes, decoder == "PooledDecoder"],
        "mine": list(weight.to_local().shape),
        "precision": lm.precision,
    }, file)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    build("llama", vocab_size=258, sharpness=3.0, max_position_embeddings=512).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def launched(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run([*launcher, *command], capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_two_halves_answer_as_the_whole(saved: Path, tmp_path: Path, dtype: str, close: float) -> None:
    requests = random_requests(np.random.default_rng(4))
    prompts = [[5, 6, *tail] for tail in ([7], [8, 9], list(range(10, 30)))]
    scored = [[list(each.tokens[: each.boundary]), list(each.tokens[each.boundary :])] for each in requests]
    script, request_file, found = tmp_path / "script.py", tmp_path / "requests.json", tmp_path / "found.json"
    script.write_text(SCRIPT)
    request_file.write_text(json.dumps({"scored": scored, "prompts": prompts}))

    run = launched(str(script), str(saved), dtype, str(request_file), str(found))

    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = json.loads(found.read_text())
    lm = load_model(str(saved), device="cpu", dtype=dtype)
    texts: dict[int, GenerateAnswer] = {}
    lm.generate([GenerateRequest.of(each, Decoding(6, beams=2)) for each in prompts], texts.__setitem__)
    assert report["mine"] == [32, 32]  # of 64 x 32
    assert report["paths"] == [True] * 4
    assert report["precision"] == dtype
    for mine, theirs in zip(report["logprobs"], Engine(lm).answer(requests), strict=True):
        assert mine == pytest.approx(list(theirs.logprobs), abs=close)
    if dtype == "float32":
        assert [each[0] for each in report["texts"]] == [list(texts[index].texts) for index in range(len(prompts))]


@pytest.mark.slow
def test_the_command_line_runs_once_over_two_processes(saved: Path, tmp_path: Path) -> None:
    command = (
        "run",
        "--task",
        "superglue/copa",
        "--data",
        "sample",
        "--limit",
        "2",
        "--shots",
        "0",
        "--format",
        "json",
    )
    run = launched(
        "-m", "icl_eval", *command, "--model", str(saved), "--tensor-parallel", "--out", str(tmp_path / "run")
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)  # one table, of one process
    assert (tmp_path / "run" / "manifest.json").is_file()
    again = launched(
        "-m", "icl_eval", *command, "--model", str(saved), "--tensor-parallel", "--out", str(tmp_path / "run")
    )
    assert (again.returncode, again.stdout) == (0, run.stdout), again.stderr


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_models_of_other_kinds_are_refused(name: str, tmp_path: Path) -> None:
    build_kind(name).save_pretrained(tmp_path)
    tokenizer_for(name).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"--tensor-parallel needs a causal language model, and '.*' is not one"):
        load_model(str(tmp_path), tensor_parallel=True)


def test_a_sweep_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="`tensor_parallel` takes one model, but a sweep has several"):
        sweep([saved, "tiny"], "symbols", data="sample", tensor_parallel=True)
