from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from icl_eval.models.loading import devices

from .checkpoints import checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, not to be changed."""
    return checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that there are GPUs, and processes that share them."""

    def pretend(gpus: int, rank: int = 0, processes: int = 1) -> None:
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(devices, "device_problem", lambda _: "")

    return pretend
