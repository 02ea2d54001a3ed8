"""Runs in which prompts are conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import NAMES, parity, write_library

from icl_eval import Library, evaluate
from icl_eval.errors import ModelError, RunError
from icl_eval.models.chat import ChatTemplate, Messages
from icl_eval.prompts import sandbox
from icl_eval.runs.regress import make_baseline, regress
from icl_eval.testing import FakeLM


@dataclass(frozen=True)
class Spoken:
    """A template that names the speakers."""

    digest: str
    start: tuple[int, ...] = ()
    space: str = ""
    end: str = ""

    def render(self, messages: Messages) -> str:
        return "".join(f"{each['role']}: {each['content']}\n" for each in messages) + "assistant: "


class Chatty(FakeLM):
    """A model that knows the answers only in a conversation."""

    def __init__(self) -> None:
        super().__init__({f"user: Q: {n}\nA:\nassistant: ": NAMES[n % 2] for n in range(8)})

    def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:
        return Spoken(f"spoken{len(arguments)}")


def test_a_chat_has_different_scores_signature_and_folder(tmp_path: Path) -> None:
    chat = evaluate(Chatty(), parity(), shots=[0, 3], chat=True, chat_args={"mood": 1}, out=tmp_path / "chat")
    plain = evaluate(Chatty(), parity(), shots=0)

    assert [score.value for score in chat.scores] == [1, 1]
    assert plain.scores[0].value < 1
    assert "|chat-turns-system#spoken1|" in chat.scores[0].signature
    assert "chat" not in plain.scores[0].signature
    assert chat.manifest.config.chat_args == {"mood": 1}
    with pytest.raises(RunError, match="this folder contains a run"):
        evaluate(Chatty(), parity(), shots=0, out=tmp_path / "chat")


def test_a_template_that_loops_is_named_while_it_is_tried() -> None:
    class Looping(Chatty):
        def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:
            named.append(sandbox._watch().rendering)
            return super().chat_template(arguments)

    named: list[Any] = []
    evaluate(Looping(), parity(), shots=0, chat=True)

    assert named == [["the chat template"]]


def test_a_baseline_of_a_chat_is_checked_as_a_chat(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    library = Library([root])
    evaluate(Chatty(), "toy/parity", shots=1, chat=True, data=root / "data", library=library, out=root / "run")
    found = regress(make_baseline(root / "run"), Chatty(), library=library)

    assert not found
    assert found.largest < 1e-6


def test_a_model_without_a_template_is_refused_before_it_runs() -> None:
    lm = FakeLM()
    with pytest.raises(ModelError, match="has no chat template, so it cannot be used with --chat"):
        evaluate(lm, parity(), shots=0, chat=True)

    assert not lm.answered
