"""The command line: parse, call, print. No logic."""

from icl_eval.cli.app import main

__all__ = ["main"]
