"""Nothing touches the network unless something remote is named."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from icl_eval import evaluate


def test_the_demonstration_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        lookups.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    result = evaluate("tiny", ["symbols", "superglue/rte"], shots=[0, 1], data="sample", limit=2)

    assert len(result) == 4
    assert lookups == []
