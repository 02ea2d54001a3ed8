"""The lock of everything that loads or runs a model in this process."""

from threading import RLock

COMPUTING = RLock()
"""Held while a model is loaded or computes, because its patches and hooks would act in other threads, too."""
