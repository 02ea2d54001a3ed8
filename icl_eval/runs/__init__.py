"""The experiment: a grid of cells for one model, in one folder, with scores that say how far to trust them."""

from icl_eval.runs.ask import Ask
from icl_eval.runs.evaluation import evaluate
from icl_eval.runs.result import Result
from icl_eval.runs.scores import Score

__all__ = ["Ask", "Result", "Score", "evaluate"]
