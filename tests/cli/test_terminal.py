from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from icl_eval.testing import FakeLM

from .command_recorder import HARNESS
from .shell import TOY, IclEval
from .test_options import COMMANDS

HOSTILE = "\x1b]0;owned\x07 \x9b2J \u202egnp.exe \u2066 \r"
VAL = Path("data/parity/val.jsonl")


def add_record(id: str) -> None:
    VAL.write_text(VAL.read_text() + json.dumps({"n": id, "pair": 0, "label": 0}) + "\n")


def test_control_characters_of_a_record_are_escaped(icl_eval: IclEval, lm: FakeLM) -> None:
    add_record(HOSTILE)
    printed = icl_eval("show", "toy/parity", "--shots", "0", "--example", HOSTILE, "--tokens", *TOY)
    lm.window = 10
    failed = icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)

    assert (printed.code, failed.code) == (0, 2)
    for text in (printed.out, printed.err, failed.err):
        assert not {*text} & {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\r"}
    assert "example \\u001b]0;owned\\u0007 \\u009b2J \\u202egnp.exe \\u2066 \\u000d, seed 0" in printed.out


def test_control_characters_of_a_file_name_are_escaped(icl_eval: IclEval) -> None:
    result = icl_eval("check", f"tasks/{HOSTILE}.yaml", *TOY)

    assert result.code == 2
    assert not {*result.err} & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}


def test_csv_in_a_pipe_has_the_names_of_json(icl_eval: IclEval, lm: FakeLM) -> None:
    lm.name = "fake\u202e"
    command = ("run", "-t", "toy/parity", "--shots", "0", "-m", "any", *TOY)
    csv_rows = icl_eval(*command, "-f", "csv").out
    stored = icl_eval(*command, "-f", "json").out

    assert "fake\u202e," in csv_rows
    assert lm.name in json.dumps(json.loads(stored), ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp936"])
def test_every_command_prints_any_character_in_any_encoding_of_stdout(
    encoding: str, icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_record("天 ’ 😀")
    task = Path("tasks/toy/parity.yaml")
    task.write_text(task.read_text().replace("Is a number even?", "天 ’ 😀"))
    lm.name = "天 ’ 😀"
    command = ("-t", "toy/parity", "--shots", "0", *TOY)
    lm.answers |= {f"{label}\n\n".encode(): "Q: 天 ’ 😀\nA: even\n\n".encode() for label in ("even", "odd")}
    sizes = ("10", "100", "1000")
    for size in sizes:
        lm.parameter_count = int(size)
        assert icl_eval("run", *command, "-m", "any", "--out", size).code == 0
    monkeypatch.setattr("icl_eval.analysis.scaling.RESAMPLES", 5)
    command_lines = (
        ("run", *command, "-m", "any", "--out", "one"),
        ("list", "toy", "--include", "."),
        ("show", "toy/parity", "--shots", "0", "--example", "天 ’ 😀", *TOY),
        ("check", "toy/parity", *TOY),
        ("rescore", "one"),
        ("compare", "one", "one"),
        ("examples", "one", "--prompt"),
        ("report", "one"),
        ("plot", "one", "one", "--kind", "differences", "-o", "plot.svg"),
        ("regress", "base 天 ’ 😀", "--update", "one"),
        ("regress", "base 天 ’ 😀", "--include", "."),
        ("plan", *command, "-m", "tiny"),
        ("import", "lm-eval", "天 ’ 😀.yaml", "--out", "imported"),
        ("fit", *sizes),
        ("contamination", "-t", "toy/parity", *TOY, "--text", "天 ’ 😀.yaml"),
        ("orders", "-t", "toy/parity", "--shots", "2", "--temperature", "0", *TOY, "-m", "any"),
    )
    Path("天 ’ 😀.yaml").write_text(HARNESS.replace("NAME", "words"))
    assert {words[0] for words in command_lines} == {*COMMANDS}
    for words in command_lines:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))

        assert icl_eval(*words).code == 0, words
        assert written.getvalue().decode(encoding) or words[0] in ("report", "plot"), words


@pytest.mark.parametrize("encoding", ["cp936"])
def test_any_character_is_printed_with_the_encoding_of_the_environment(encoding: str, library: Path) -> None:
    task = Path("tasks/toy/parity.yaml")
    task.write_text(task.read_text().replace("Is a number even?", "天 ’ 😀"))
    command = [sys.executable, "-m", "icl_eval", "list", "toy/parity", "--include", "."]
    result = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})

    assert (result.returncode, result.stderr) == (0, b"")
    assert "\\ud83d\\ude00" in result.stdout.decode(encoding)


def test_table_fits_the_width_of_the_terminal(icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("run", "-t", "toy", "--shots", "0,1,2,3,4,5", "--out", "kept", *TOY)
    widths = []
    for width in ("80", "100", "150"):
        monkeypatch.setenv("COLUMNS", width)
        result = icl_eval(*command)
        assert result.code == 0, result.err
        lines = [line for line in result.out.splitlines() if line.startswith(" ")]
        assert max(map(len, lines)) <= int(width)
        widths.append(next(len(line) for line in lines if line.startswith(" ──")))
    monkeypatch.delenv("COLUMNS")

    assert widths[0] < widths[1] < widths[2]
    assert icl_eval(*command).out.splitlines() == icl_eval("rescore", "kept").out.splitlines()


def test_columns_and_signatures_are_printed_if_requested(icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY)
    result = icl_eval("rescore", "kept", "--columns", "ties,se", "--signatures")

    assert " ties      ±" in result.out
    assert "toy/parity|plain|k0|" in result.out
    assert icl_eval("rescore", "kept", "--columns", "tis").mistake == "no column is named 'tis'; did you mean ties?"


def test_table_characters_become_ascii_and_other_characters_escapes() -> None:
    from icl_eval.cli import terminal

    terminal.escape_unencodable()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="icl-eval", write_through=True)
    stream.write("─│ 0.5 ± 0.1 ⢸⡇ é 😀")

    assert stream.buffer.getvalue() == rb"-| 0.5 +- 0.1 ** \u00e9 \ud83d\ude00"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_is_reported_in_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "icl_eval", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert result.returncode == 2
    assert result.stderr == "icl-eval: stdout cannot be written: No space left on device\n"


def test_second_interrupt_during_the_first_is_ignored(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "the command"

    monkeypatch.setattr(lm, "score", interrupt)
    monkeypatch.setattr("icl_eval.cli.run.shlex.join", interrupt)
    result = icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)

    assert (result.code, result.out) == (130, "")
    assert result.err.endswith("this command continues the run:\n  the command\n")
