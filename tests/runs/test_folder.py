from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from toy_tasks import ASKED, PROMPT, answers, knowing, parity, records, write, write_library

from icl_eval import Library, Task, evaluate
from icl_eval.errors import DataError, ModelError, RunError
from icl_eval.testing import FakeLM

from .dying import Stopping
from .folders import examples, journal, lines, manifest

FILES = ("scores.json", "examples.jsonl")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_run_folder_holds_its_four_files(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[0, 2], out=tmp_path / "new" / "run")

    found = {path.name for path in (tmp_path / "new" / "run").iterdir()} - {".lock"}
    assert found == {"manifest.json", "answers.jsonl", "examples.jsonl", "prompts.jsonl", "scores.json"}


def test_a_second_run_computes_nothing_again(tmp_path: Path) -> None:
    first = knowing(0, 1)
    evaluate(first, parity(), shots=[0, 2], seeds=2, out=tmp_path)
    before = contents(tmp_path)
    again = knowing(0, 1)
    evaluate(again, parity(), shots=[0, 2], seeds=2, out=tmp_path)

    assert again.answered == 0
    assert (manifest(tmp_path)["computed"], manifest(tmp_path)["reused"]) == (0, 3 * 8 * 2 * 2)
    assert contents(tmp_path) == before


def test_a_larger_grid_computes_only_what_is_new(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[0], limit=4, out=tmp_path)
    lm = knowing(0)
    evaluate(lm, parity(), shots=[0, 1], out=tmp_path)

    assert lm.answered == 4 * 2 + 8 * 2


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = knowing(0, 1)
    evaluate(whole, parity(), shots=[0, 2], out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopping(answers([0, 1]), KeyboardInterrupt(), after=11), parity(), shots=[0, 2], out=tmp_path / "cut")
    assert len(journal(tmp_path / "cut")) == 11
    rest = knowing(0, 1)
    evaluate(rest, parity(), shots=[0, 2], out=tmp_path / "cut")

    assert rest.answered == whole.answered - 11
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_torn_last_line_is_computed_again(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    before = contents(tmp_path)
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(answers.read_bytes()[:-20])
    lm = knowing(0)
    evaluate(lm, parity(), shots=0, out=tmp_path)

    assert lm.answered == 1
    assert contents(tmp_path) == before
    assert len({entry["key"] for entry in lines(answers)}) == 18


def test_a_damaged_line_is_named_and_leaves_the_folder_unlocked(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    answers = tmp_path / "answers.jsonl"
    whole = answers.read_text()
    answers.write_text("\n".join([*whole.splitlines()[:2], "{broken", *whole.splitlines()[2:]]) + "\n")
    with pytest.raises(RunError, match=rf"^{answers}:3: this line of the journal is damaged") as error:
        evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    answers.write_text(whole)
    lm = knowing(0)
    evaluate(lm, parity(), shots=0, out=tmp_path)

    assert lm.answered == 0
    assert error.tb is not None  # which would keep the lock alive, had it not been released


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(RunError) as error:
        evaluate(lm := knowing(0), parity(), shots=0, out=tmp_path)

    assert str(error.value) == f"{tmp_path}: another process is writing this run folder"
    assert lm.answered == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write(tmp_path, "file", "")
    with pytest.raises(RunError, match=r"file/run: this run folder cannot be written: Not a directory"):
        evaluate(knowing(0), parity(), shots=0, out=tmp_path / "file" / "run")


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(RunError, match="this run folder cannot be written: Permission denied"):
        evaluate(knowing(0), parity(), shots=0, out=tmp_path)


@pytest.mark.parametrize("file", ["manifest.json", "scores.json", "examples.jsonl.partial"])
def test_a_result_that_cannot_be_written_is_an_error(file: str, tmp_path: Path) -> None:
    (tmp_path / file / "in the way").mkdir(parents=True)

    with pytest.raises(RunError, match=rf"^{tmp_path / file}: cannot be written: "):
        evaluate(knowing(0), parity(), shots=0, out=tmp_path)


def test_an_error_of_the_model_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="nobody answers"):
        evaluate(Stopping(answers([0, 1]), ConnectionError("nobody answers"), after=3), parity(), shots=0, out=tmp_path)
    with pytest.raises(ModelError, match="its weights may be damaged"):
        evaluate(_Broken(), parity(), shots=0, out=tmp_path)


def test_an_edited_record_recomputes_only_its_requests(tmp_path: Path) -> None:
    root, out = write_library(tmp_path), tmp_path / "run"
    evaluate(knowing(0), "toy/parity", shots=0, data=root / "data", library=Library([root]), out=out)
    data = root / "data/parity/val.jsonl"
    data.write_text(data.read_text().replace('"n": 7', '"n": 9'))
    lm = knowing(0)
    evaluate(lm, "toy/parity", shots=0, data=root / "data", library=Library([root]), out=out)

    assert lm.answered == 2
    assert [example["id"] for example in examples(out)] == list("01234569")


def test_an_edited_template_recomputes_only_its_task(tmp_path: Path) -> None:
    root, out = write_library(tmp_path), tmp_path / "run"

    def answered_by_a_run() -> int:
        evaluate(lm := knowing(0), "toy", shots=[0, 1], data=root / "data", library=Library([root]), out=out)
        return lm.answered

    first = answered_by_a_run()
    write(root, "prompts/toy/pairs/plain.jinja", "N: {{ n }}\nA:")
    second = answered_by_a_run()
    write(root, "prompts/toy/pairs/plain.jinja", PROMPT)

    # The tasks have the same queries at zero shots, and draw other demonstrations at one.
    assert first == 8 * 2 + 2 * 8 * 2 + 2
    assert second == 8 * 2 + 8 * 2
    assert answered_by_a_run() == 0


def test_answers_of_one_model_are_never_anothers(tmp_path: Path) -> None:
    first = evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    second = evaluate(lm := knowing(*ASKED), parity(), shots=0, out=tmp_path)

    assert (first.score("parity").value, second.score("parity").value) == (1 / 8, 1.0)
    assert lm.answered == 18


def test_manifest_states_what_was_evaluated_on_what(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[0, 2], seeds=2, limit=4, note="mind the gap", out=tmp_path)

    stored = manifest(tmp_path)
    assert stored["config"] == {
        "model": "fake",
        "revision": None,
        "dtype": "auto",
        "bos": None,
        "max_length": None,
        "quantize": None,
        "pll": "l2r",
        "tokenizer": None,
        "served_name": None,
        "data": "hub",
        "tasks": ["parity"],
        "prompts": [],
        "shots": [0, 2],
        "seeds": [0, 1],
        "split": None,
        "fewshot_split": None,
        "limit": 4,
        "overflow": "drop",
    }
    assert (stored["note"], stored["model_words"], stored["window"]) == ("mind the gap", "bos0|w1048576|exact", 2**20)
    assert {
        name: stored["tasks"][0][name]
        for name in ("task", "prompt", "metrics", "shots", "seeds", "examples", "total_examples")
    } == {
        "task": "parity",
        "prompt": "inline",
        "metrics": ["accuracy"],
        "shots": [0, 2],
        "seeds": [0, 1],
        "examples": 4,
        "total_examples": 8,
    }
    assert stored["finished"] >= stored["started"]


def test_manifest_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopping(answers([0, 1]), KeyboardInterrupt(), after=1), parity(), shots=4, out=tmp_path)

    assert manifest(tmp_path)["finished"] is None


def test_an_error_in_the_data_comes_before_the_folder(tmp_path: Path) -> None:
    task = Task.from_records("bad", evaluation=records([2]), prompt=PROMPT, options=["a", "b"], gold="n")
    with pytest.raises(DataError, match="the label 2 is out of range for 2 options"):
        evaluate(knowing(0), task, shots=0, out=tmp_path / "run")

    assert not (tmp_path / "run").exists()


class _Broken(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        super().score(requests, lambda index, answer: sink(index, type(answer)((float("nan"),), answer.greedy)))


def test_a_folder_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[0], out=tmp_path)
    before = contents(tmp_path)

    with pytest.raises(RunError, match=r"contains a run of .* give another --out"):
        evaluate(knowing(0), _renamed("other"), shots=[0], out=tmp_path)

    assert contents(tmp_path) == before


def test_what_was_finished_before_is_void_while_another_grid_runs(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[0], out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopping(answers([0, 1]), KeyboardInterrupt(), after=3), parity(), shots=[0, 1], out=tmp_path)

    assert not (tmp_path / "scores.json").exists()
    assert not (tmp_path / "examples.jsonl").exists()


def _renamed(name: str) -> Task:
    task = parity()
    return replace(task, definition=task.definition.model_copy(update={"task": name}))
