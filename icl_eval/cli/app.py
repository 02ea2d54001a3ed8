"""All commands under one name, and what happens when one cannot do its work."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from icl_eval.cli import check, listing, regress, rescore, run, show
from icl_eval.errors import IclEvalError

USER_ERROR = 2

app = typer.Typer(
    help="Measure what a language model can do from its prompt alone: zero-, one- and few-shot.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("list")(listing.list_names)
app.command("show")(show.show)
app.command("check")(check.check)
app.command("rescore")(rescore.rescore)
app.command("regress")(regress.regress)


def main() -> int:
    """Run the command line; a user's mistake is one sentence and exit code 2, a bug is a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except IclEvalError as error:
        print(f"icl-eval: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """A polite kill is an interrupt: what is answered is kept and the way to go on is printed."""
    raise KeyboardInterrupt
