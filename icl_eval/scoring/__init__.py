"""Which option wins: pure functions of stored log-probabilities."""

from icl_eval.scoring.normalization import NORMALIZATIONS, OptionResult, score, score_noise
from icl_eval.scoring.ranking import TIE, Ranking, close_options, rank

__all__ = ["NORMALIZATIONS", "TIE", "OptionResult", "Ranking", "close_options", "rank", "score", "score_noise"]
