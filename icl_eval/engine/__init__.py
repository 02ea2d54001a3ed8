"""Requests become batches of shared prefixes; answers are journalled as they come."""

from icl_eval.engine.engine import Engine
from icl_eval.engine.journal import Journal, MemoryJournal
from icl_eval.engine.lines import ENDINGS
from icl_eval.engine.noise import measure_noise
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.partition import WorkItem, partition
from icl_eval.engine.plan import Batch, plan
from icl_eval.engine.ranks import SINGLE_PROCESS, Ranks, launched, rank_and_world_size
from icl_eval.engine.shared import SharedJournal, absorb_others, journal_path
from icl_eval.engine.workload import Workload

__all__ = [
    "ENDINGS",
    "SINGLE_PROCESS",
    "Batch",
    "Engine",
    "Journal",
    "MemoryJournal",
    "PackedRow",
    "Ranks",
    "SharedJournal",
    "Terms",
    "WorkItem",
    "Workload",
    "absorb_others",
    "journal_path",
    "launched",
    "measure_noise",
    "pack",
    "partition",
    "plan",
    "rank_and_world_size",
]
