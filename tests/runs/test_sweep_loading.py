"""Sweeps over checkpoints on disk: what is loaded, what is freed, and what need not be loaded."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from models import kinds
from models.architectures import build
from models.checkpoints import byte_tokenizer, checkpoint
from toy_tasks import PROMPT, parity, write, write_library

from icl_eval import Library, evaluate, sweep
from icl_eval.errors import ModelError, RunError
from icl_eval.models import load, load_model
from icl_eval.runs.regress import make_baseline, regress

from .folders import manifest

LLAMA = 258 * 32 * 2 + 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32) + 32  # its embeddings are not tied
TINY = (837 + 1024) * 128 + 4 * (4 * 128**2 + 4 * 128 + 2 * 128 * 384 + 384 + 128 + 4 * 128) + 2 * 128  # one is shared


@pytest.fixture
def saved(tmp_path: Path) -> list[Path]:
    """Two checkpoints of different weights."""
    return [checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two", sharpness=1.5)]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models as they are loaded."""
    names: list[str] = []

    def counting(name: str, *arguments: Any) -> Any:
        names.append(name)
        return load(name, *arguments)

    monkeypatch.setattr("icl_eval.runs.model.load", counting)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # it looks at every object there is
    return names


def measure(saved: list[Path], out: Path, **options: Any) -> Any:
    return sweep(saved, parity(), shots=[0, 1], device="cpu", out=out, **options)


def test_a_model_is_freed_before_the_next_is_loaded(saved: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []

    def watched(*arguments: Any) -> Any:
        assert [reference for reference in alive if reference() is not None] == []
        lm: Any = load(*arguments)
        lm.itself = lm  # so that only a garbage collection frees it, as it does a model whose hooks hold it
        alive.extend([weakref.ref(lm), weakref.ref(lm.model)])
        return lm

    monkeypatch.setattr("icl_eval.runs.model.load", watched)
    found = sweep(saved, parity(), shots=[0, 1], device="cpu")

    assert len(found) == 2
    assert [reference() for reference in alive] == [None] * 4


def test_a_model_that_failed_is_freed_too(saved: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []

    def damaging(*arguments: Any) -> Any:
        assert [reference for reference in alive if reference() is not None] == []
        lm: Any = load(*arguments)
        if not alive:
            lm.model.lm_head.weight.data.fill_(float("nan"))
        alive.append(weakref.ref(lm.model))
        return lm

    monkeypatch.setattr("icl_eval.runs.model.load", damaging)
    found = sweep(saved, parity(), shots=0, device="cpu")

    assert [each.model for each in found.failures] == [str(saved[0])]
    assert len(found) == 1


def test_a_model_without_memory_for_it_fails_alone(saved: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, *arguments: Any) -> Any:
        if name == str(saved[0]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return load(name, *arguments)

    monkeypatch.setattr("icl_eval.runs.model.load", full)
    found = sweep(saved, parity(), shots=0, device="cpu")

    assert [each.failed for each in found.failures] == [
        f"'{saved[0]}' does not fit the device's memory: CUDA out of memory. Tried to allocate 20 GiB"
    ]
    assert len(found) == 1


def test_a_checkpoint_that_cannot_be_loaded_fails_alone(saved: list[Path]) -> None:
    (saved[0] / "model.safetensors").unlink()
    found = sweep(saved, parity(), shots=0, device="cpu")

    assert str(found.failures[0].failed).startswith(f"'{saved[0]}' cannot be loaded: ")
    assert [result.manifest.model_name for result in found] == [str(saved[1])]


def test_finished_models_are_not_loaded_again(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    first = measure(saved, tmp_path / "sweep")
    again = measure(saved, tmp_path / "sweep")

    assert loaded == [str(path) for path in saved]
    assert again.table("json") == first.table("json")
    assert [result.manifest for result in again] == [result.manifest for result in first]


def test_a_finished_run_of_one_model_is_not_loaded_again(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": 0, "device": "cpu", "out": tmp_path / "run"}
    first, again = (evaluate(saved[0], parity(), **options) for _ in range(2))

    assert loaded == [str(saved[0])]
    assert again.scores == first.scores


def test_other_normalisations_need_no_model(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    measure(saved, tmp_path / "sweep")
    by_byte = measure(saved, tmp_path / "sweep", normalizations="byte")
    alone = evaluate(saved[1], parity(), shots=[0, 1], normalizations="byte", device="cpu")

    assert len(loaded) == 2 + 1
    assert by_byte.results[1].scores == alone.scores
    kept = json.loads((by_byte.results[1].folder / "scores.json").read_text())["scores"]
    assert {line["normalization"] for line in kept} == {"byte"}


@pytest.mark.parametrize("options", [{"shots": [0, 2]}, {"overflow": "error"}, {"note": "mind the gap"}])
def test_another_grid_is_evaluated(
    options: dict[str, Any], saved: list[Path], loaded: list[str], tmp_path: Path
) -> None:
    grid: dict[str, Any] = {"shots": [0, 1], "device": "cpu"}
    sweep(saved[:1], parity(), out=tmp_path / "sweep", **grid)
    found = sweep(saved[:1], parity(), out=tmp_path / "sweep", **grid | options)

    assert len(loaded) == 2
    assert found.results[0].scores == evaluate(saved[0], parity(), **grid | options).scores


def test_other_weights_at_the_same_path_are_loaded(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    measure(saved, tmp_path / "sweep")
    build("llama", vocab_size=258, sharpness=2.0).save_pretrained(saved[1])
    again = measure(saved, tmp_path / "sweep")

    assert loaded == [*map(str, saved), str(saved[1])]
    assert again.results[1].manifest.reused == 0


def test_an_edited_record_or_template_is_evaluated_and_nothing_else(
    saved: list[Path], loaded: list[str], tmp_path: Path
) -> None:
    root = write_library(tmp_path)

    def run() -> list[int | None]:
        library = Library([root])
        found = sweep(
            saved, "toy/parity", shots=0, data=root / "data", library=library, device="cpu", out=root / "sweep"
        )
        return [result.manifest.computed for result in found]

    first = run()
    data = root / "data/parity/val.jsonl"
    data.write_text(data.read_text().replace('"n": 7', '"n": 9'))
    record = run()
    write(root, "prompts/toy/parity/plain.jinja", "N: {{ n }}\nA:")
    template = run()
    write(root, "prompts/toy/parity/plain.jinja", PROMPT)
    back = run()

    assert (first, record, template, back) == ([18, 18], [2, 2], [16, 16], [0, 0])
    assert len(loaded) == 4 * 2  # the last time, too: what was finished last is the other template


def test_what_is_damaged_is_made_again(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    first = measure(saved, tmp_path / "sweep")
    examples = first.results[0].folder / "examples.jsonl"
    whole = examples.read_bytes()
    examples.write_bytes(whole[: len(whole) // 2])
    again = measure(saved, tmp_path / "sweep")

    assert loaded == [*map(str, saved), str(saved[0])]
    assert examples.read_bytes() == whole
    assert again.results[0].manifest.computed == 0


def test_a_run_by_another_program_version_is_scored_by_this_one(
    saved: list[Path], loaded: list[str], tmp_path: Path
) -> None:
    first = measure(saved[:1], tmp_path / "sweep")
    file = first.results[0].folder / "manifest.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"versions": stored["versions"] | {"icl-eval": "0.0.1"}}))
    measure(saved[:1], tmp_path / "sweep")

    assert len(loaded) == 2
    assert manifest(file.parent)["versions"] == stored["versions"]


def test_parameters_are_counted_once_each(saved: list[Path], tmp_path: Path) -> None:
    found = sweep(["tiny", saved[0]], parity(), shots=0, device="cpu", out=tmp_path / "sweep")

    assert [result.manifest.parameters for result in found] == [TINY, LLAMA]
    assert list(found.to_frame()["parameters"]) == [TINY, LLAMA]
    assert f"{TINY:,}" in found.table(columns=["model", "parameters"])


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_models_of_other_kinds_are_counted_and_not_loaded_again(name: str, loaded: list[str], tmp_path: Path) -> None:
    model = kinds.build(name, **{"n_positions" if name == "t5" else "max_position_embeddings": 512})
    model.save_pretrained(tmp_path / name)
    kinds.tokenizer_for(name).save_pretrained(tmp_path / name)

    found = [sweep(tmp_path / name, parity(), shots=0, device="cpu", out=tmp_path / "out") for _ in range(2)]

    assert [each.results[0].manifest.parameters for each in found] == [model.num_parameters()] * 2
    assert len(loaded) == 1


@pytest.mark.parametrize("spelling", ["{}/", "{}/../one", "{}/."])
def test_two_spellings_of_a_directory_are_one_model(spelling: str, saved: list[Path], loaded: list[str]) -> None:
    other = spelling.format(saved[0])
    with pytest.raises(RunError) as error:
        sweep([str(saved[0]), other], parity(), shots=0)

    assert str(error.value) == f"'{saved[0]}' and '{other}' are the same model"
    assert loaded == []


@pytest.mark.parametrize("name", ["tiny", "one"])
def test_a_directory_has_no_revisions(
    name: str, saved: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = f"'{name}' is on this machine and has no revisions; --revision is for names on the Hub"
    calls: list[Any] = [
        lambda: load_model(name, revision="main"),
        lambda: evaluate(name, parity(), revision="main"),
        lambda: sweep([name], parity(), revisions=["step1", "step2"]),
    ]
    for call in calls:
        with pytest.raises(ModelError) as error:
            call()
        assert str(error.value) == sentence


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache with a model at two steps of its training, and no network beyond it."""
    repository = tmp_path / "hub" / "models--lab--llama"
    for step, sharpness in ((1, 1.0), (2, 1.5)):
        commit = str(step) * 40
        checkpoint(repository / "snapshots" / commit, sharpness=sharpness)
        write(repository, f"refs/step{step}", commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return repository


def test_steps_of_training_are_revisions(hub: Path, saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": [0, 1], "device": "cpu"}
    found = sweep("lab/llama", parity(), revisions=["step1", "step2"], out=tmp_path / "sweep", **options)
    alone = [evaluate(path, parity(), **options).scores for path in saved]

    assert [result.scores for result in found] == alone
    assert [result.manifest.model_fingerprint.split("|")[0] for result in found] == [
        f"lab/llama@{'1' * 40}",
        f"lab/llama@{'2' * 40}",
    ]


def test_a_revision_that_moved_is_loaded_again(hub: Path, loaded: list[str], tmp_path: Path) -> None:
    def run() -> None:
        sweep("lab/llama", parity(), revisions=["step1", "step2"], shots=0, device="cpu", out=tmp_path / "sweep")

    run()
    run()
    assert len(loaded) == 2
    write(hub, "refs/step1", "2" * 40)
    run()
    assert len(loaded) == 3


def test_a_revision_that_is_not_there_fails_alone(hub: Path) -> None:
    found = sweep("lab/llama", parity(), revisions=["step1", "step9"], shots=0, device="cpu")

    assert [each.label for each in found.failures] == ["lab/llama@step9"]
    assert len(found) == 1


def test_a_baseline_of_a_revision_passes_on_a_copy_of_it(hub: Path, saved: list[Path], tmp_path: Path) -> None:
    evaluate("lab/llama", parity(), revision="step1", shots=0, device="cpu", out=tmp_path / "run")
    baseline = make_baseline(tmp_path / "run")

    assert not regress(baseline, saved[0], tasks=parity(), device="cpu")


def test_the_tokenizer_of_a_checkpoint_is_part_of_it(saved: list[Path], loaded: list[str], tmp_path: Path) -> None:
    measure(saved[:1], tmp_path / "sweep")
    shutil.rmtree(saved[0])
    checkpoint(saved[0])
    byte_tokenizer(adds_bos=True).save_pretrained(saved[0])
    again = measure(saved[:1], tmp_path / "sweep")

    assert len(loaded) == 2
    assert again.results[0].manifest.model_words.startswith("bos1")
