"""Runs of a served model: what is kept when it fails, and that no key is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from completions import Completions, Habits, failing, serving, wait_for_nothing
from toy_tasks import parity
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_eval import evaluate, sweep
from icl_eval.errors import ModelError, RunError
from icl_eval.models.loading.checkpoint import TINY_PATH

torch.set_num_threads(1)

Start = Callable[[Habits], tuple[str, Completions]]


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(TINY_PATH), AutoTokenizer.from_pretrained(TINY_PATH)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tiny: tuple[Any, Any]) -> Iterator[Start]:
    wait_for_nothing(monkeypatch)
    with ExitStack() as stack:

        def started(habits: Habits) -> tuple[str, Completions]:
            served = Completions(*tiny, habits)
            return stack.enter_context(serving(served)), served

        yield started


def options(out: Path) -> dict[str, object]:
    return {"shots": [0, 1], "out": out, "tokenizer": str(TINY_PATH), "retries": 1, "concurrency": 1}


@pytest.mark.parametrize("habits", [Habits(echoes=False), Habits(listed=False, ids=False)])
def test_a_served_model_scores_as_the_model_itself(habits: Habits, start: Start, tmp_path: Path) -> None:
    url, _ = start(habits)
    served = evaluate(url, parity(range(4)), **options(tmp_path / "served"))  # type: ignore[arg-type]
    local = evaluate("tiny", parity(range(4)), shots=[0, 1], device="cpu")

    assert [(each.shots, each.value) for each in served] == [(each.shots, each.value) for each in local]


@pytest.mark.parametrize("trouble", [{"always": failing(500)}, {"hangs_up": True}, {"always": failing(400)}])
def test_a_run_goes_on_where_the_server_failed(trouble: dict[str, object], start: Start, tmp_path: Path) -> None:
    whole = evaluate(start(Habits())[0], parity(range(4)), **options(tmp_path / "whole"))  # type: ignore[arg-type]
    url, server = start(Habits(after=12, **trouble))  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        evaluate(url, parity(range(4)), **options(tmp_path / "run"))  # type: ignore[arg-type]
    kept = (tmp_path / "run" / "answers.jsonl").read_text().count("\n")
    server.habits.after = 10**6
    result = evaluate(url, parity(range(4)), **options(tmp_path / "run"))  # type: ignore[arg-type]

    assert str(caught.value).startswith(f"{url}/completions ")
    assert kept == 3  # of twelve; nine were probes
    assert (result.manifest.reused, result.manifest.computed) == (kept, (whole.manifest.computed or 0) - kept)
    assert [each.value for each in result] == [each.value for each in whole]


def test_a_run_goes_on_where_the_server_moved_to(start: Start, tmp_path: Path) -> None:
    evaluate(start(Habits())[0], parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]
    again = evaluate(start(Habits())[0], parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]

    assert again.manifest.computed == 0


def test_a_run_does_not_go_on_with_another_model(start: Start, tmp_path: Path) -> None:
    evaluate(start(Habits())[0], parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]
    other = Habits(models=[{"id": "other", "max_model_len": 256}])

    with pytest.raises(RunError, match="this folder contains a run of http"):
        evaluate(start(other)[0], parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]


def test_the_key_is_nowhere(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_EVAL_API_KEY", "sekret-3")
    url, server = start(Habits(after=12, always=failing(500, "sekret-3 is overloaded")))
    with pytest.raises(ModelError) as caught:
        evaluate(url, parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]
    server.habits.after = 10**6
    evaluate(url, parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]

    assert server.keys == {"Bearer sekret-3"}
    assert "sekret" not in str(caught.value)
    assert all("sekret" not in file.read_text() for file in tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://me:sekret-4@localhost:1/v1", "http://localhost:1/v1?key=sekret-4"])
def test_a_secret_in_a_url_reaches_no_file_of_a_sweep(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="put the API key into the environment variable"):
        sweep(["tiny", url], parity(range(4)), out=tmp_path / "sweep", tokenizer="tiny")

    assert not (tmp_path / "sweep").exists()


def test_a_sweep_of_an_endpoint_and_a_checkpoint(start: Start, tmp_path: Path) -> None:
    url, _ = start(Habits())
    host = url.removeprefix("http://").removesuffix("/v1").replace(":", "-")
    grid = {"shots": [0, 1], "out": tmp_path, "tokenizer": "tiny"}

    found = sweep([url, "tiny"], parity(range(4)), **grid)  # type: ignore[arg-type]
    again = sweep([url, "tiny"], parity(range(4)), **grid)  # type: ignore[arg-type]

    served, local = found
    assert [each.value for each in served] == [each.value for each in local]
    assert [each.manifest.computed for each in again] == [0, 0]
    assert served.folder is not None
    assert served.folder.name.startswith(f"{host}-")
    with pytest.raises(RunError, match="are the same model"):
        sweep([url, f"{url}/"], parity(range(4)), tokenizer="tiny")


def test_an_endpoint_has_no_revisions() -> None:
    calls: list[Callable[[], object]] = [
        lambda: evaluate("http://localhost:1/v1", parity(range(4)), tokenizer="tiny", revision="main"),
        lambda: sweep("http://localhost:1/v1", parity(range(4)), tokenizer="tiny", revisions=["a", "b"]),
    ]
    for call in calls:
        with pytest.raises(ModelError, match="is an endpoint and has no revisions"):
            call()


def test_an_option_without_effect_is_refused_whatever_was_finished_before(tmp_path: Path) -> None:
    evaluate("tiny", parity(range(4)), shots=0, device="cpu", out=tmp_path)
    with pytest.raises(ModelError, match="`timeout` has no effect on a model that is not served"):
        evaluate("tiny", parity(range(4)), shots=0, device="cpu", out=tmp_path, timeout=3)
    with pytest.raises(ModelError, match="--max-memory needs --device-map"):
        evaluate("tiny", parity(range(4)), shots=0, device="cpu", out=tmp_path, max_memory={"cpu": "1GiB"})


def test_the_manifest_says_where_and_by_which_name(start: Start, tmp_path: Path) -> None:
    url, _ = start(Habits())
    result = evaluate(url, parity(range(4)), **options(tmp_path))  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "manifest.json").read_text())

    assert (manifest["config"]["model"], manifest["config"]["tokenizer"]) == (url, str(TINY_PATH))
    assert (manifest["model_name"], manifest["model_words"]) == ("tiny-served", "bos0|w510|served:prompt_logprobs-ids")
    assert "served" in next(iter(result)).signature
