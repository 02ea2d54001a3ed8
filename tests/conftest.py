from __future__ import annotations

import gc

gc.disable()  # while tests are collected: what they import stays, and looking for garbage in it takes seconds


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of every later garbage collection, which code under test asks for."""
    gc.enable()
    gc.collect()
    gc.freeze()
