from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from icl_eval.engine import Engine, Journal, Ranks, SharedJournal
from icl_eval.engine.journal import from_line, to_line
from icl_eval.errors import RunError
from icl_eval.models import Answer, GenerateAnswer, ScoreAnswer, ScoreRequest
from icl_eval.testing import FakeLM

REQUESTS = [ScoreRequest.of([65, 66], [token, token + 1]) for token in range(70, 76)]


def test_answers_are_on_disk_and_not_in_memory(path: Path) -> None:
    answers = {f"{number:024x}": ScoreAnswer((-1.5,) * 1000, False) for number in range(300)}

    with Journal(path) as journal:
        journal.put(answers)
        tracemalloc.start()
        journal.put({f"again-{key}": answer for key, answer in answers.items()})
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert kept < 300 * 500
        assert all(journal.get(key) == answer for key, answer in answers.items())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def run(path: Path, requests: list[ScoreRequest] = REQUESTS) -> tuple[list[object], int]:
    """Answers, and how many of them the model gave."""
    model = FakeLM()
    with Journal(path) as journal:
        return list(Engine(model, journal).answer(requests)), model.answered


def test_a_second_run_computes_nothing(path: Path) -> None:
    first, first_answered = run(path)
    written = path.read_bytes()

    assert first_answered == len(REQUESTS)
    assert run(path) == (first, 0)
    assert path.read_bytes() == written


def test_every_answer_is_one_line(path: Path) -> None:
    run(path)

    assert len(path.read_text().splitlines()) == len(REQUESTS)
    with Journal(path) as journal:
        assert (len(journal), journal.torn) == (len(REQUESTS), False)


def test_a_longer_run_computes_what_is_new(path: Path) -> None:
    run(path, REQUESTS[:4])

    assert run(path)[1] == len(REQUESTS) - 4


def test_answers_are_read_back_to_the_last_digit(path: Path) -> None:
    first, _ = run(path)

    assert run(path)[0] == first


def test_moments_are_read_back_and_stand_only_in_the_lines_of_requests_for_them(path: Path) -> None:
    requests = [replace(REQUESTS[0], moments=True), REQUESTS[0]]
    first, _ = run(path, requests)
    lines = path.read_text().splitlines()

    assert run(path, requests) == (first, 0)
    assert ["means" in line and "sds" in line for line in lines] == [True, False]


def test_a_torn_last_line_is_cut_off_and_its_answer_alone_computed_again(path: Path) -> None:
    first, _ = run(path)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1

    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        with Journal(path) as journal:
            assert journal.torn
        assert path.read_bytes() == whole[:last]
        assert run(path) == (first, 1)
        assert path.read_bytes() == whole


def test_a_journal_may_be_cut_between_lines(path: Path) -> None:
    first, _ = run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))

    assert run(path) == (first, 2)


def sealed(body: bytes) -> bytes:
    """A line whose checksum is right, whatever stands in it."""
    return body[:-1] + b',"crc32":"%08x"}' % zlib.crc32(body[:-1])


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"null",
        b"\xff",
        b'{"key":"k","logprobs":[-1.0],"greedy":true}',
        sealed(b"[]"),
        sealed(b'{"key":"k","greedy":true}'),
        sealed(b'{"key":"k","logprobs":null,"greedy":true}'),
        sealed(b'{"key":"k","logprobs":[],"greedy":true}'),
        sealed(b'{"key":"k","logprobs":"12","greedy":true}'),
        sealed(b'{"key":"k","logprobs":["-1"],"greedy":true}'),
        sealed(b'{"key":"k","logprobs":[-1.0,0.5],"greedy":true}'),
        sealed(b'{"key":"k","logprobs":[NaN],"greedy":true}'),
        sealed(b'{"key":"k","logprobs":[-1%s],"greedy":true}' % (b"0" * 400)),
        sealed(b'{"key":"k","logprobs":[-1.0],"greedy":1}'),
        sealed(b'{"key":7,"logprobs":[-1.0],"greedy":true}'),
        sealed(b'{"key":"\\ud800","logprobs":[-1.0],"greedy":true}'),
        sealed(b'{"key":"k","logprobs":%s,"greedy":true}' % DEEP),
        sealed(b'{"key":"k","texts":["a","b"],"tokens":[1],"finished":["end"],"scores":[-1.0]}'),
        sealed(b'{"key":"k","texts":"a","tokens":[1],"finished":["end"],"scores":[-1.0]}'),
        sealed(b'{"key":"k","texts":["a"],"tokens":[-1],"finished":["end"],"scores":[-1.0]}'),
        sealed(b'{"key":"k","texts":["a"],"tokens":[1],"finished":["bored"],"scores":[-1.0]}'),
        sealed(b'{"key":"k","texts":["a"],"tokens":[1],"finished":["end"],"scores":[0.5]}'),
        sealed(b'{"key":"k","texts":["\\udc00"],"tokens":[1],"finished":["end"],"scores":[-1.0]}'),
    ],
    ids=range(23),
)
def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(path: Path, damage: bytes) -> None:
    run(path)
    lines = path.read_bytes().splitlines()
    lines[2] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()

    with pytest.raises(RunError, match=r"answers\.jsonl:3: this line of the journal is damaged"):
        Journal(path)

    assert path.read_bytes() == before


def test_every_flipped_digit_is_found(path: Path) -> None:
    run(path, REQUESTS[:2])
    whole = path.read_bytes()
    first = whole.index(b"\n")

    for index in range(first):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(RunError, match=r"answers\.jsonl:1: this line of the journal is damaged"):
            Journal(path)


def test_all_damaged_lines_are_named_at_once_and_one_command_drops_them(tmp_path: Path) -> None:
    (folder := tmp_path / "a run's folder").mkdir()
    path = folder / "answers.jsonl"
    first, _ = run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"x\n", lines[1], b"y\n", b"z\n", *lines[3:], b'{"key":"torn']))
    with pytest.raises(RunError, match="the lines 2, 4 to 5 of the journal are damaged") as caught:
        Journal(path)

    subprocess.run(caught.value.message.split("`")[1], shell=True, check=True)
    assert run(path) == (first, 1)


def test_a_second_answer_to_a_request_is_damage_unless_it_is_the_same(path: Path) -> None:
    first, _ = run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    with Journal(path.with_name("other.jsonl")) as journal:
        journal.put({from_line(lines[1])[0]: ScoreAnswer((-9.0, -9.0), False)})
        other = journal.path.read_bytes()
    path.write_bytes(b"".join([*lines, lines[3]]))

    assert run(path) == (first, 0)
    path.write_bytes(b"".join([*lines, other]))
    with pytest.raises(RunError, match=r"answers\.jsonl:2: the lines 2, 7 of the journal are damaged"):
        Journal(path)


def test_an_answer_to_another_number_of_tokens_is_refused(path: Path) -> None:
    with Journal(path) as journal:
        journal.put({REQUESTS[0].key(FakeLM().fingerprint): ScoreAnswer((-1.0,), False)})

    with pytest.raises(RunError, match="contains 1 log-probability for a request of 2 tokens"):
        run(path)


def test_a_journal_is_on_disk_before_the_one_it_was_merged_from_is_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.with_name("answers.1.jsonl")
    run(other)
    written: list[int] = []
    sync = os.fsync

    def synced(descriptor: int) -> None:
        sync(descriptor)
        if other.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            written.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", synced)
    size = other.stat().st_size
    with Journal(path) as journal:
        journal.absorb(other)

    assert written[-1] == size
    assert not other.exists()


def test_an_answer_that_a_journal_has_is_not_taken_over_again(path: Path) -> None:
    other = path.with_name("other.jsonl")
    with Journal(path) as journal, Journal(other) as second:
        journal.put({"a": ScoreAnswer((-1.0,), False)})
        second.put({"a": ScoreAnswer((-1.0,), False), "b": ScoreAnswer((-2.0,), True)})
        journal.absorb(other)

    assert len(path.read_bytes().splitlines()) == 2


def test_answers_are_on_disk_before_the_others_are_informed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda _: events.append("on disk"))

    def exchange(value: object) -> list[object]:
        events.append("reported")
        return [value]

    with SharedJournal(Journal(path), path.parent, Ranks(0, 1, exchange)) as shared:
        shared.put({"a": ScoreAnswer((-1.0,), False)})
        shared.sync(None)

    assert events == ["on disk", "reported"] * 2


def test_a_damaged_line_that_is_deleted_is_computed_again(path: Path) -> None:
    first, _ = run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))

    assert run(path) == (first, 1)


def test_a_journal_in_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the journal cannot be opened: No such file or directory"):
        Journal(tmp_path / "absent" / "answers.jsonl")


def test_a_journal_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the journal cannot be opened: Is a directory"):
        Journal(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(RunError, match="the journal cannot be opened: Permission denied"):
            Journal(tmp_path / "answers.jsonl")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path) as journal:
        monkeypatch.setattr(journal._file, "flush", full, raising=False)
        with pytest.raises(RunError, match="an answer cannot be written: No space left on device"):
            Engine(FakeLM(), journal).answer(REQUESTS)
        monkeypatch.undo()


KILLED = """
import os, signal, sys
from pathlib import Path
from icl_eval.engine import Engine, Journal
from icl_eval.models import ScoreRequest
from icl_eval.testing import FakeLM

class Doomed(FakeLM):
    def _answer(self, request):
        if self.answered > int(answered):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._answer(request)

requests = [ScoreRequest.of([65, 66], [token, token + 1]) for token in range(70, 76)]
for path, answered in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    if os.fork() == 0:
        Engine(Doomed(), Journal(Path(path))).answer(requests)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform kills otherwise")
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    counts = (0, 4)
    paths = [tmp_path / f"killed-after-{answered}.jsonl" for answered in counts]
    words = [str(word) for pair in zip(paths, counts, strict=True) for word in pair]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=True, capture_output=True, text=True)
    answers, _ = run(tmp_path / "whole")

    assert done.stdout.split() == [str(-int(signal.SIGKILL))] * 2
    assert [len(path.read_bytes().splitlines()) for path in paths] == [*counts]
    assert [run(path) for path in paths] == [(answers, len(REQUESTS) - answered) for answered in counts]


def test_a_text_without_tokens_is_read_back() -> None:
    answer = GenerateAnswer(("",), (0,), ("stop",), (0.0,))

    assert from_line(to_line("key", answer)) == ("key", answer, "")


def test_the_line_of_a_known_answer_is_read_once_by_a_continued_call(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Measured(FakeLM):
        measures_noise = True

    with Journal(path) as journal:
        Engine(Measured(), journal).answer(REQUESTS[:4])
    read: list[bytes] = []

    def counted(line: bytes) -> tuple[str, Answer, str]:
        read.append(line)
        return from_line(line)

    with Journal(path) as journal:
        monkeypatch.setattr("icl_eval.engine.journal.from_line", counted)
        Engine(Measured(), journal).answer([*REQUESTS, *REQUESTS])

    assert len(read) == len(set(read)) == 4
