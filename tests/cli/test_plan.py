from __future__ import annotations

import re
import shlex
from pathlib import Path

from .shell import TOY, IclEval

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"


def test_the_documented_plan_is_what_the_command_prints(icl_eval: IclEval) -> None:
    section = PAGE.read_text("utf-8").split("\n## `icl-eval plan`")[1].split("\n## ")[0]
    config, command, output = re.search(
        r"```json\n(.*?)```.*?```console\n(.*?)```.*?```\n(.*?)```", section, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    Path("gpt3-175b").mkdir()
    Path("gpt3-175b/config.json").write_text(config)
    done = icl_eval(*shlex.split(command)[1:])

    assert (done.code, done.err) == (0, "")
    assert done.out == output


def test_the_bundled_model_is_planned_by_default(icl_eval: IclEval) -> None:
    options = (
        "--task",
        "symbols",
        "--shots",
        "0,2",
        "--seeds",
        "3,4",
        "--limit",
        "3",
        "--bos",
        "yes",
        "--max-length",
        500,
    )

    explained = icl_eval("run", *options, "--device", "cpu", "--explain").out
    said = icl_eval("plan", *options, "--device", "cpu").out

    assert explained
    assert explained in said


def test_mistakes_are_one_sentence(icl_eval: IclEval) -> None:
    Path("empty").mkdir()

    assert icl_eval("plan", "--task", "toy/parity", "--model", "empty", *TOY).mistake == (
        "empty: this directory is not a checkpoint: it has no config.json"
    )
    assert icl_eval("plan", "--task", "toy/party", *TOY).mistake == (
        "no task or suite is named 'toy/party'; did you mean toy/parity or toy/pairs?"
    )
    assert icl_eval("plan", "--task", "toy/parity", "--tokenizer", "./gone", *TOY).mistake == (
        "gone: there is no such tokenizer directory"
    )
