"""How cheaply: requests become batches of shared prefixes, answers are journalled as they come."""

from icl_eval.engine.engine import Engine
from icl_eval.engine.journal import Journal, MemoryJournal, scratch_journal
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.engine.workload import Workload

__all__ = [
    "Batch",
    "Engine",
    "Journal",
    "MemoryJournal",
    "PackedRow",
    "Terms",
    "Workload",
    "pack",
    "plan",
    "scratch_journal",
]
