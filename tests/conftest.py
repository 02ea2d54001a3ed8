from __future__ import annotations

import gc

import hypothesis
import pytest

hypothesis.settings.register_profile("default run", deadline=None, max_examples=40)  # a loaded machine is no failure
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
hypothesis.settings.load_profile("default run")

gc.disable()  # while tests are collected: what they import stays, and looking for garbage in it takes seconds


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of every later garbage collection that the code under test starts."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same for what the tests of a module have imported and cached, which is a lot of models."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()
