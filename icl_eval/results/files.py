"""Locked folders and atomically written files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from icl_eval.errors import RunError


def lock(path: Path) -> FileLock:
    """Lock a folder for this process; it is created if it does not exist.

    Raises:
        RunError: the folder cannot be written, or another process has locked it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder_lock = FileLock(path / ".lock")
        folder_lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError("another process is writing this run folder", path) from error
    except FileExistsError as error:
        raise RunError("this is a file, but a run needs a folder; give another --out", path) from error
    except OSError as error:
        raise RunError(f"this run folder cannot be written: {error.strerror}", path) from error
    return folder_lock


def replace_file(path: Path, pieces: Iterable[str], end: str = "\n") -> None:
    """Write a file atomically.

    Args:
        path: the file.
        pieces: its content.
        end: written after the last piece.

    Raises:
        RunError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with write_errors(path):
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
            file.write(end)
        partial.replace(path)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """A context that turns an `OSError` into a `RunError` about the file or folder.

    Raises:
        RunError: the block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot be written: {error.strerror}", path) from error
