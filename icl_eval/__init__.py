"""Measure what a language model can do from its prompt alone: zero-, one- and few-shot."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from icl_eval.analysis.compare import compare, compare_with_first
    from icl_eval.analysis.rescore import rescore, rescore_sweep
    from icl_eval.analysis.scaling import fit_scaling
    from icl_eval.errors import IclEvalError
    from icl_eval.models import LanguageModel, load_model, wrap_model
    from icl_eval.prompts import Prompt
    from icl_eval.results.result import Comparison, Comparisons, Result, Scaling, Sweep
    from icl_eval.results.score import Score
    from icl_eval.runs.contamination import contamination
    from icl_eval.runs.cost import Explanation, Plan
    from icl_eval.runs.evaluate import evaluate
    from icl_eval.runs.orders import OrderEntropies, order_entropies
    from icl_eval.runs.plan import explain, plan
    from icl_eval.runs.power import SampleSize, sample_sizes
    from icl_eval.runs.sweep import sweep
    from icl_eval.tasks import Example, Library, Task

__all__ = [
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

_HOMES = {
    "Comparison": "results.result",
    "Comparisons": "results.result",
    "Example": "tasks",
    "Explanation": "runs.cost",
    "IclEvalError": "errors",
    "LanguageModel": "models",
    "Library": "tasks",
    "OrderEntropies": "runs.orders",
    "Plan": "runs.cost",
    "Prompt": "prompts",
    "Result": "results.result",
    "SampleSize": "runs.power",
    "Scaling": "results.result",
    "Score": "results.score",
    "Sweep": "results.result",
    "Task": "tasks",
    "compare": "analysis.compare",
    "compare_with_first": "analysis.compare",
    "contamination": "runs.contamination",
    "evaluate": "runs.evaluate",
    "explain": "runs.plan",
    "fit_scaling": "analysis.scaling",
    "load_model": "models",
    "order_entropies": "runs.orders",
    "plan": "runs.plan",
    "rescore": "analysis.rescore",
    "rescore_sweep": "analysis.rescore",
    "sample_sizes": "runs.power",
    "sweep": "runs.sweep",
    "wrap_model": "models",
}


def __getattr__(name: str) -> Any:
    """Import each name when it is first used: the help of the command line needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
