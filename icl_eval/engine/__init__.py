"""Answer requests with a model: look up known answers, plan and compute the others, and write them to the journal."""

from icl_eval.engine.engine import Engine
from icl_eval.engine.journal import ENDINGS, Journal, MemoryJournal
from icl_eval.engine.noise import measure_noise
from icl_eval.engine.ranks import SINGLE_PROCESS, Ranks, launched, partition, rank_and_world_size
from icl_eval.engine.shared import SharedJournal, absorb_others, journal_path
from icl_eval.engine.workload import Workload

__all__ = [
    "ENDINGS",
    "SINGLE_PROCESS",
    "Engine",
    "Journal",
    "MemoryJournal",
    "Ranks",
    "SharedJournal",
    "Workload",
    "absorb_others",
    "journal_path",
    "launched",
    "measure_noise",
    "partition",
    "rank_and_world_size",
]
