"""The bundled tiny GPT-2 and the bundled sample data: enough to try every command without a download.

Every score on the sample is labelled `sample`. It describes an invented world and no benchmark.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""Folder of the bundled GPT-2 with its tokenizer, loadable by `from_pretrained`."""

DATA = Path(__file__).parent / "data"
"""Folder of the bundled sample data: `superglue/` and `symbols/`."""
