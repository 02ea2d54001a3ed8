"""Which option wins: pure functions of stored log-probabilities."""

from icl_eval.scoring.calibration import CALIBRATIONS, Calibrated, Calibration, LabelLogprobs, Scoring, gaussian_mixture
from icl_eval.scoring.normalization import NORMALIZATIONS, OptionResult, score, score_noise
from icl_eval.scoring.ranking import TIE, Ranking, close_options, rank

__all__ = [
    "CALIBRATIONS",
    "NORMALIZATIONS",
    "TIE",
    "Calibrated",
    "Calibration",
    "LabelLogprobs",
    "OptionResult",
    "Ranking",
    "Scoring",
    "close_options",
    "gaussian_mixture",
    "rank",
    "score",
    "score_noise",
]
