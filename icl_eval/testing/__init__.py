"""Helpers for your own tests: a model without weights, and checks of a task."""

from icl_eval.testing.fake import FakeLM
from icl_eval.testing.invariants import check_task

__all__ = ["FakeLM", "check_task"]
