from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of every later garbage collection, which code under test asks for."""
    gc.collect()
    gc.freeze()
