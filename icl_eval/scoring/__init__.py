"""Which option wins: pure functions of stored log-probabilities."""

from icl_eval.scoring.normalization import NORMALIZATIONS, OptionEvidence, score
from icl_eval.scoring.ranking import TIE, Ranking, rank

__all__ = ["NORMALIZATIONS", "TIE", "OptionEvidence", "Ranking", "rank", "score"]
