"""Scores of options from stored log-probabilities: normalisation, calibration, and the choice of the highest."""

from icl_eval.scoring.calibration import (
    CALIBRATIONS,
    CONTEXTUAL,
    TRANSDUCTIVE,
    Calibrated,
    Calibration,
    Scoring,
    gaussian_mixture,
    label_entropies,
    option_scores,
    prototypes_limit,
)
from icl_eval.scoring.normalization import NORMALIZATIONS, OptionResult, score, score_noise
from icl_eval.scoring.ranking import TIE, Ranking, close_options, rank

__all__ = [
    "CALIBRATIONS",
    "CONTEXTUAL",
    "NORMALIZATIONS",
    "TIE",
    "TRANSDUCTIVE",
    "Calibrated",
    "Calibration",
    "OptionResult",
    "Ranking",
    "Scoring",
    "close_options",
    "gaussian_mixture",
    "label_entropies",
    "option_scores",
    "prototypes_limit",
    "rank",
    "score",
    "score_noise",
]
