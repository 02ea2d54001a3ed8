"""The command `icl-eval`: its subcommands, and how errors, signals and exit codes are handled."""

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
REPEAT_SECONDS = 1.0  # a second interrupt within this time is ignored, since the first is still being handled
MAX_PATH = 80  # characters of a path in a message
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of the copy in newer typers


class Command(TyperCommand):
    """A command whose help groups the options by their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each panel, in the order of the parameters."""
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
    """Run the command line and return its exit code: 2 for a user's mistake, which is reported in one sentence.

    A bug raises its exception, so that Python prints a traceback.
    """
    terminal.escape_unencodable()
    handler = _signal_handler()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    try:
        return app(sys.argv[1:] or ["--help"], prog_name="icl-eval", standalone_mode=False) or 0
    except WorkerError:
        return USER_ERROR
    except RankError as error:
        terminal.print_error(error)
        return USER_ERROR
    except IclEvalError as error:
        _print_error_once(error)
        return USER_ERROR
    except UsageError as error:
        _print_error_once(f"{_sentence(error)}; {_advice(error)}")
        return USER_ERROR
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _print_error_once(f"{str(error.filename)[:MAX_PATH]} ...: this path or a name in it is too long for the system")
        return USER_ERROR
    except typer.Abort:
        return INTERRUPTED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # the process ends anyway; a traceback would only confuse
            signal.signal(number, signal.SIG_IGN)


def _print_error_once(sentence: object) -> None:
    """Print an error that all processes of a run find, in the first process only."""
    if options.is_first():
        terminal.print_error(sentence)


def _sentence(error: Any) -> str:
    """The message of a usage error, in the style of the messages of icl-eval."""
    sentence = str(error.format_message()).replace("Value error, ", "").rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _advice(error: Any) -> str:
    """The command that prints the help for a usage error."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else f"icl-eval {sys.argv[1]}"  # no context if an option lacks its value
    return f"see `{path} --help`"


def _signal_handler() -> Callable[[int, FrameType | None], None]:
    """A signal handler that raises `KeyboardInterrupt` once, so that answers are stored and a hint is printed.

    A second signal within a second is ignored; a later one ends the process immediately.
    """
    first: list[float] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > REPEAT_SECONDS:
            os._exit(INTERRUPTED)

    return interrupt
