from __future__ import annotations

import gc

import hypothesis

hypothesis.settings.register_profile("default run", deadline=None, max_examples=40)  # a loaded machine is no failure
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
hypothesis.settings.load_profile("default run")

gc.disable()  # while tests are collected: what they import stays, and looking for garbage in it takes seconds


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of every later garbage collection that the code under test starts."""
    gc.enable()
    gc.collect()
    gc.freeze()
