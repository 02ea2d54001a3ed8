from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import icl_eval


def test_public_names_are_these() -> None:
    assert icl_eval.__all__ == [
        "Comparison",
        "Comparisons",
        "Example",
        "Explanation",
        "IclEvalError",
        "LanguageModel",
        "Library",
        "OrderEntropies",
        "Plan",
        "Prompt",
        "Result",
        "SampleSize",
        "Scaling",
        "Score",
        "Sweep",
        "Task",
        "__version__",
        "compare",
        "compare_with_first",
        "contamination",
        "evaluate",
        "explain",
        "fit_scaling",
        "load_model",
        "order_entropies",
        "plan",
        "rescore",
        "rescore_sweep",
        "sample_sizes",
        "sweep",
        "wrap_model",
    ]
    assert dir(icl_eval) == icl_eval.__all__


@pytest.mark.parametrize("name", icl_eval.__all__)
def test_every_public_name_resolves_and_says_what_it_is(name: str) -> None:
    found = getattr(icl_eval, name)

    assert isinstance(found, str) or found.__name__ == name
    assert found.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'icl_eval' has no attribute 'evaluat'"):
        icl_eval.evaluat  # noqa: B018


def test_no_function_trusts_remote_code_by_default() -> None:
    package = Path(icl_eval.__file__).parent
    default = re.compile(r"trust_remote_code: bool = (True|False)")
    found = [name for path in package.rglob("*.py") for name in default.findall(path.read_text(encoding="utf-8"))]

    assert found == ["False"] * len(found)
    assert found


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, icl_eval; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "numpy", "pydantic", "jinja2", "datasets", "evaluate", "yaml", "rich", "typer"}

    assert "icl_eval" in done.stdout.split()
    assert heavy & set(done.stdout.split()) == set()


def test_a_custom_task_takes_ten_lines() -> None:
    from icl_eval import Task, evaluate
    from icl_eval.testing import FakeLM

    words = [{"word": "cat", "label": "animal"}, {"word": "oak", "label": "plant"}, {"word": "elm", "label": "plant"}]
    task = Task.from_records(
        "kinds",
        evaluation=words,
        prompt="A {{ word }} is what?",
        options=["animal", "plant"],
        names=["animal", "plant"],
        metrics=["accuracy", "macro_f1"],
    )
    lm = FakeLM({"cat is what?": " animal", "oak is what?": " plant", "elm is what?": " animal"})
    result = evaluate(lm, task, shots=[0, 1], seeds=2)

    assert " kinds  accuracy  0.667" in str(result)
    assert result.to_frame()[["shots", "metric", "value"]].values.tolist() == [
        [0, "accuracy", pytest.approx(2 / 3)],
        [0, "macro_f1", pytest.approx(2 / 3)],
        [1, "accuracy", pytest.approx(2 / 3)],
        [1, "macro_f1", pytest.approx(2 / 3)],
    ]
