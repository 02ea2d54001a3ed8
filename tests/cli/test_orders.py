from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .shell import IclEval


@pytest.mark.parametrize("task", ["superglue/cb", str(Path(__file__).parents[2] / "tasks/superglue/cb.yaml")])
def test_the_best_orders_of_the_bundled_model_can_be_run(task: str, icl_eval: IclEval) -> None:
    given = ("--fewshot-ids", "0,2,5", "--labels", "flipped", "--data", "sample")
    done = icl_eval("orders", "--task", task, "--shots", 3, "--order", "permutations:6", *given)
    entropies = [
        float(each) for each in re.findall(r"^ (?:drawn|permutation:\dof6) +(\d\.\d{3}) ", done.out, re.MULTILINE)
    ]

    assert (done.code, done.err) == (0, "")
    assert len(entropies) == 6
    assert entropies == sorted(entropies, reverse=True)
    command = re.search(r"^the best 4: icl-eval (run .*)", done.out, re.MULTILINE)
    assert command is not None
    assert f"run --task {task} --shots 3 " in command[0]
    assert " --data sample --labels flipped --fewshot-ids 0,2,5 --order " in command[1]
    run = icl_eval(*shlex.split(command[1]), "--limit", 4, "-f", "csv", "--out", "run")
    assert (run.code, run.out.count("cb,")) == (0, 2 * 4 + 2)  # of two metrics, four orders and their mean
