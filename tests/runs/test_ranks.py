"""Several processes on one run: each with a model of its own, and a run folder as all they share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from toy_tasks import knowing, parity

from icl_eval import evaluate
from icl_eval.errors import RunError

from .crew import finish, run, start
from .folders import journal, manifest

KEPT = ("scores.json", "examples.jsonl")
ASKED = {
    "choices": "evaluate('tiny', 'superglue', shots=[0, 4], seeds=2, limit=3, data='sample', out=sys.argv[1])",
    "texts": "evaluate('tiny', ['arithmetic/1d-composite', 'unscramble/reversed-words'], shots=[0, 2], limit=12,"
    " out=sys.argv[1])",
    "likelihoods": "evaluate('tiny', text(), shots=[0, 2, 6], out=sys.argv[1])",
    "one stem": "evaluate('tiny', text('fixed'), shots=[6], out=sys.argv[1])",
    "a black box": "evaluate(FakeLM(), [parity(range(60)), text()], shots=[0, 2], out=sys.argv[1])",
}
LONG = "evaluate('tiny', 'superglue', shots=[0, 4, 8], seeds=3, limit=12, data='sample', out=sys.argv[1])"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEPT}


def test_a_run_by_one_process_is_as_ever(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)

    assert manifest(tmp_path)["processes"] == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl") == [
        "answers.jsonl",
        "examples.jsonl",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ASKED)
def test_scores_and_every_answer_are_those_of_one_process_to_the_last_byte(
    kind: str, size: int, tmp_path: Path
) -> None:
    code = f"result = {ASKED[kind]}; print(len(result), result.manifest.processes, result.score(result.scores[0].task))"
    (alone,) = run(code, tmp_path / "alone", 1)
    said = run(code, tmp_path / "many", size)

    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert said == [alone.replace(" 1 ", f" {size} ", 1)] * size
    assert (found := manifest(tmp_path / "many"))["processes"] == size
    assert found["computed"] == manifest(tmp_path / "alone")["computed"] == len(journal(tmp_path / "many"))
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        ".lock",
        "answers.jsonl",
        "examples.jsonl",
        "manifest.json",
        "scores.json",
    ]


def test_two_processes_score_as_one_does(tmp_path: Path) -> None:
    code = "print(evaluate('tiny', 'superglue/cb', shots=[0, 3], limit=6, data='sample', out=sys.argv[1]).table())"
    (alone,) = run(code, tmp_path / "alone", 1)

    assert run(code, tmp_path / "many", 2) == [alone] * 2
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


def test_more_processes_than_questions(tmp_path: Path) -> None:
    code = "evaluate(knowing(0), parity(range(1)), shots=0, out=sys.argv[1])"
    run(code, tmp_path / "many", 3)
    evaluate(knowing(0), parity(range(1)), shots=0, out=tmp_path / "alone")

    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform kills otherwise")
@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_what_was_answered_before_a_process_was_killed_is_not_asked_again(size: int, tmp_path: Path) -> None:
    run(LONG, tmp_path / "alone", 1)
    processes = start(LONG, tmp_path / "many", 2)
    other = tmp_path / "many" / "answers.1.jsonl"
    while not (other.is_file() and other.stat().st_size):
        assert processes[1].poll() is None, processes[1].communicate()
        time.sleep(0.005)
    os.kill(processes[1].pid, signal.SIGKILL)
    (first, *_), (killed, *_) = finish(processes)
    kept = sum(path.read_bytes().count(b"\n") for path in (tmp_path / "many").glob("answers*.jsonl"))
    run(LONG, tmp_path / "many", size)

    assert (first, killed) == (1, -signal.SIGKILL)
    assert 0 < kept < len(journal(tmp_path / "alone"))
    assert len(journal(tmp_path / "many")) == len(journal(tmp_path / "alone"))
    assert manifest(tmp_path / "many")["computed"] == len(journal(tmp_path / "alone")) - kept
    assert (tmp_path / "many" / "scores.json").read_bytes() == (tmp_path / "alone" / "scores.json").read_bytes()


def test_what_killed_processes_left_is_merged_without_the_lines_they_tore(tmp_path: Path) -> None:
    whole = knowing(0, 1)
    evaluate(whole, parity(), shots=[0, 2], out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "answers.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:9])
    (cut / "answers.1.jsonl").write_bytes(b"".join(lines[4:9]) + lines[9][:-1])
    (cut / "answers.12.jsonl").write_bytes(b"".join(lines[10:12]))
    (cut / "answers.2.jsonl").write_bytes(b"")
    (cut / "answers.old.jsonl").write_bytes(b"not ours")
    rest = knowing(0, 1)
    evaluate(rest, parity(), shots=[0, 2], out=cut)

    assert rest.asked == whole.asked - 11
    assert contents(cut) == contents(tmp_path / "whole")
    assert sorted(entry["key"] for entry in journal(cut)) == sorted(
        entry["key"] for entry in journal(tmp_path / "whole")
    )
    assert sorted(path.name for path in cut.glob("answers*")) == ["answers.jsonl", "answers.old.jsonl"]


def test_a_damaged_line_of_a_process_that_was_killed_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.1.jsonl").write_bytes(b"{broken\n{}\n")

    with pytest.raises(RunError, match=r"answers\.1\.jsonl:1: this line of the journal is damaged"):
        evaluate(knowing(0), parity(), shots=0, out=tmp_path)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("evaluate(knowing(0), parity(), shots=0)", "2 processes share their answers through a run folder"),
        ("evaluate('tiny', 'superglue/cd', data='sample', out=sys.argv[1])", "no task or suite is named"),
        ("evaluate(knowing(*range(1 + int(os.environ['RANK']))), parity(), out=sys.argv[1])", "has another model"),
        ("evaluate(knowing(0), parity(), shots=int(os.environ['RANK']), out=sys.argv[1])", "process 1 asks otherwise"),
    ],
)
def test_what_all_processes_find_wrong_is_raised_in_each(code: str, sentence: str, tmp_path: Path) -> None:
    first, second = finish(start(f"import os\n{code}", tmp_path / "run", 2))

    assert (first[0], second[0]) == (1, 1)
    assert sentence in first[2]
    assert "PeerError: process 0: " in second[2]


def test_an_error_of_one_process_alone_ends_the_others(tmp_path: Path) -> None:
    code = """
import os
class Failing(FakeLM):
    def score(self, requests, sink):
        if os.environ["RANK"] == "1":
            sink(0, type("Answer", (), {"logprobs": (1.0,), "scores": (1.0,)})())
        super().score(requests, sink)
evaluate(Failing(), parity(range(4000)), shots=0, out=sys.argv[1])
"""
    first, second = finish(start(code, tmp_path / "run", 2))

    assert (first[0], second[0]) == (1, 1)
    assert "icl_eval.errors.RankError: process 1: the model's log-probabilities are" in second[2]
    assert "icl_eval.errors.PeerError: process 1: the model's log-probabilities are" in first[2]


def test_a_process_may_measure_alone(tmp_path: Path) -> None:
    code = "import os\nif os.environ['RANK'] == '0':\n    evaluate(knowing(0), parity(), shots=0, alone=True)"

    assert run(code, tmp_path, 2) == ["", ""]
