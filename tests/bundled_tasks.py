"""The bundled tasks, each loaded once in a process."""

from __future__ import annotations

from functools import cache

from icl_eval.tasks import Library, Task

LIBRARY = Library()


@cache
def bundled_task(name: str) -> Task:
    return LIBRARY.task(name)


@cache
def bundled_tasks() -> dict[str, Task]:
    """Every bundled task by its name."""
    return {name: bundled_task(name) for name in LIBRARY.names() if not LIBRARY.is_suite(name)}
