"""The committed baseline of the bundled model, on any CPU."""

from __future__ import annotations

from pathlib import Path

import torch

from icl_eval.runs.regress import SAFE_MARGIN, read_baseline, regress
from icl_eval.scoring import rank

BASELINE = Path(__file__).resolve().parent.parent / "results" / "tiny-gpt2.json"


torch.set_num_threads(1)


def test_the_bundled_model_answers_as_it_did() -> None:
    found = regress(read_baseline(BASELINE))

    assert found.changes == ()
    assert found.examples == len(read_baseline(BASELINE).examples) > 100
    assert found.largest < 1e-4


def test_no_example_of_the_baseline_is_decided_by_rounding() -> None:
    for example in read_baseline(BASELINE).examples:
        found = rank([sum(option) / len(option) for option in example.logprobs])

        assert found.tied or found.margin > SAFE_MARGIN / 2
