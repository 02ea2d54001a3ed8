"""Folders that one process writes at a time, and files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from icl_eval.errors import RunError


def lock(path: Path) -> FileLock:
    """Take a folder, made if missing, for this process alone, until the lock is released.

    Raises:
        RunError: it cannot be written, or another process is using it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = FileLock(path / ".lock")
        taken.acquire(timeout=0)
    except Timeout as error:
        raise RunError("another process is writing this run folder", path) from error
    except FileExistsError as error:
        raise RunError("this is a file, but a run needs a folder; give another --out", path) from error
    except OSError as error:
        raise RunError(f"this run folder cannot be written: {error.strerror}", path) from error
    return taken


def replace_file(path: Path, pieces: Iterable[str], end: str = "\n") -> None:
    """Write a file whole or not at all, with `end` after the last piece.

    Raises:
        RunError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with write_errors(path):
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
            file.write(end)
        partial.replace(path)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a sentence about the file or folder that cannot be written.

    Raises:
        RunError: the block raised one.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot be written: {error.strerror}", path) from error
