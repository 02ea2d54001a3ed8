"""How cheaply: requests become batches of shared prefixes, answers are journalled as they come."""

from icl_eval.engine.dealing import Unit, deal
from icl_eval.engine.engine import Engine
from icl_eval.engine.journal import Journal, MemoryJournal, scratch_journal
from icl_eval.engine.lines import ENDINGS
from icl_eval.engine.noise import measure_noise
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.engine.ranks import ALONE, Ranks, launched, seat
from icl_eval.engine.shared import SharedJournal, absorb_others, journal_path
from icl_eval.engine.workload import Workload

__all__ = [
    "ALONE",
    "ENDINGS",
    "Batch",
    "Engine",
    "Journal",
    "MemoryJournal",
    "PackedRow",
    "Ranks",
    "SharedJournal",
    "Terms",
    "Unit",
    "Workload",
    "absorb_others",
    "deal",
    "journal_path",
    "launched",
    "measure_noise",
    "pack",
    "plan",
    "scratch_journal",
    "seat",
]
