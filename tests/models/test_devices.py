from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from icl_eval.errors import ModelError
from icl_eval.models.loading import devices
from icl_eval.models.loading.devices import device_named, gpus_of, local_process, on_one_gpu


@pytest.mark.parametrize(
    ("rank", "processes", "gpus", "expected"),
    [(0, 1, 8, range(8)), (0, 2, 8, range(4)), (1, 2, 8, range(4, 8)), (2, 3, 8, range(4, 6)), (1, 2, 0, range(0))],
)
def test_processes_take_equal_shares_of_the_gpus(rank: int, processes: int, gpus: int, expected: range) -> None:
    assert list(gpus_of(rank, processes, gpus)) == list(expected)


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^4 processes cannot share 2 GPUs: start at most 2$"):
        gpus_of(3, 4, 2)


def test_a_process_alone_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    assert local_process() == (0, 1)


@pytest.mark.parametrize(
    ("gpus", "rank", "processes", "expected"),
    [(0, 1, 2, "cpu"), (1, 0, 1, "cuda"), (4, 0, 1, "cuda"), (4, 3, 4, "cuda:3"), (8, 3, 4, "cuda:3")],
)
def test_a_process_takes_the_gpu_of_its_number(
    machine: Any, monkeypatch: pytest.MonkeyPatch, gpus: int, rank: int, processes: int, expected: str
) -> None:
    machine(gpus, rank, processes)
    monkeypatch.setattr(devices, "device_problem", lambda device: f"so {device} it was")

    with pytest.raises(ModelError, match=f"^--device {expected} cannot be used: so {expected} it was$"):
        device_named(None)


@pytest.mark.parametrize(
    ("names", "processes", "expected"),
    [
        (["cuda:0", "cuda:0"], None, True),
        (["cuda:0", "cuda:0"], 2, False),
        (["cuda:0", "cuda:1"], None, False),
        (["cuda:0", "cpu"], None, False),
        (["cpu", "cpu"], None, False),
    ],
)
def test_a_model_is_on_one_gpu_if_no_part_of_it_is_elsewhere(
    names: list[str], processes: int | None, expected: bool
) -> None:
    tensors = [SimpleNamespace(device=torch.device(name)) for name in names]
    model = SimpleNamespace(parameters=lambda: tensors[:1], buffers=lambda: tensors[1:], tp_size=processes)

    assert on_one_gpu(model) == expected
