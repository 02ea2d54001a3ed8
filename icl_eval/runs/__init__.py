"""The experiment: a grid of cells for one model, in one folder, with scores that say how far to trust them."""

from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import Score
from icl_eval.runs.cost import Plan, plan
from icl_eval.runs.evaluation import evaluate, explain
from icl_eval.runs.explanation import Explanation
from icl_eval.runs.result import Result, Sweep

__all__ = ["Explanation", "Plan", "Result", "RunConfig", "Score", "Sweep", "evaluate", "explain", "plan"]
