"""Lay the hand-written records of every task out as their releases do: `python tests/write_releases.py DIRECTORY`.

With them a task runs that needs data which may not be passed on; its scores then say so much and no more.
"""

from __future__ import annotations

import sys
from pathlib import Path

from choice_records import write_choice_release
from standard_records import write_standard_release
from superglue_records import write_release
from text_records import write_text_release


def write_releases(directory: Path) -> Path:
    """Write the files of all releases below a directory."""
    return write_standard_release(write_text_release(write_choice_release(write_release(directory))))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/write_releases.py DIRECTORY")
    write_releases(Path(sys.argv[1]))
