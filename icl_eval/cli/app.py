"""All commands under one name, and what happens when one cannot do its work."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import icl_eval
from icl_eval.cli import (
    check,
    compare,
    contamination,
    examples,
    fit,
    importing,
    listing,
    options,
    orders,
    plan,
    plot,
    regress,
    report,
    rescore,
    run,
    show,
    terminal,
)
from icl_eval.errors import IclEvalError, RankError, WorkerError

USER_ERROR, INTERRUPTED = 2, 130
SAME_PRESS = 1.0  # seconds in which a second interrupt adds nothing: the first one is being answered
LONGEST_SHOWN = 80  # characters of a path in a message
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or the copy that newer typers hold


class Command(TyperCommand):
    """A command whose help has a section for each panel of its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the panels in the order in which the options name them, and the rest."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            if parameter.param_type_name == "argument":
                sections.setdefault("Arguments", []).append((record[0].split(" <")[0], record[1]))  # without its type
            else:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


app = typer.Typer(
    help="Measure what a language model can do from its prompt alone: zero-, one- and few-shot.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", cls=Command)(run.run)
app.command("list", cls=Command)(listing.list_names)
app.command("show", cls=Command)(show.show)
app.command("check", cls=Command)(check.check)
app.command("rescore", cls=Command)(rescore.rescore)
app.command("compare", cls=Command)(compare.compare)
app.command("fit", cls=Command)(fit.fit)
app.command("examples", cls=Command)(examples.examples)
app.command("report", cls=Command)(report.report)
app.command("plot", cls=Command)(plot.plot)
app.command("regress", cls=Command)(regress.regress)
app.command("plan", cls=Command)(plan.plan)
app.command("contamination", cls=Command)(contamination.contamination)
app.command("orders", cls=Command)(orders.orders)
app.command("import", cls=Command)(importing.import_tasks)


def _print_version(given: bool) -> None:
    if given:
        terminal.write(f"icl-eval {icl_eval.__version__}")
        raise typer.Exit


@app.callback(epilog="A first run, of the bundled model on bundled data: icl-eval run --task symbols --shots 0,4")
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


def main() -> int:
    """Run the command line; a user's mistake is one sentence and exit code 2, a bug is a traceback."""
    terminal.accept_any_text()
    handler = _interrupter()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    try:
        return app(sys.argv[1:] or ["--help"], prog_name="icl-eval", standalone_mode=False) or 0
    except WorkerError:
        return USER_ERROR
    except RankError as error:
        terminal.complain(error)
        return USER_ERROR
    except IclEvalError as error:
        _complain_once(error)
        return USER_ERROR
    except UsageError as error:
        _complain_once(f"{_sentence(error)}; {_advice(error)}")
        return USER_ERROR
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _complain_once(
            f"{str(error.filename)[:LONGEST_SHOWN]} ...: this path or a name in it is too long for the system"
        )
        return USER_ERROR
    except typer.Abort:
        return INTERRUPTED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # it ends by itself; interrupted now it would only say so
            signal.signal(number, signal.SIG_IGN)


def _complain_once(sentence: object) -> None:
    """Report once a mistake that all processes of a run find."""
    if options.is_first():
        terminal.complain(sentence)


def _sentence(error: Any) -> str:
    """What is wrong with the arguments, without the usage that typer prints around it."""
    sentence = str(error.format_message()).replace("Value error, ", "").rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _advice(error: Any) -> str:
    """What to do about wrong arguments."""
    found = getattr(error, "ctx", None)
    path = found.command_path if found else f"icl-eval {sys.argv[1]}"  # an option without its value brings no context
    return f"see `{path} --help`"


def _interrupter() -> Callable[[int, FrameType | None], None]:
    """A handler that raises `KeyboardInterrupt` once, so that what is answered is kept and the way to go on is printed.

    A second signal that follows within a second is ignored; a later one ends the process at once.
    """
    first: list[float] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > SAME_PRESS:
            os._exit(INTERRUPTED)

    return interrupt
