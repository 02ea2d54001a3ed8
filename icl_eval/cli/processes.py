"""`icl-eval run --processes N`: run the same command line in N processes with accelerate's launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from threading import Thread

from icl_eval.engine import rank_and_world_size
from icl_eval.errors import RunError

OPTION = "--processes"
LAUNCHER = "ICL_EVAL_LAUNCHER"  # environment variable with the id of the process that started the others
USER_ERROR, INTERRUPTED, BUG = 2, 130, 1


def start(processes: int, device: str | None) -> int:
    """Run this command line in several processes that share the work, and return the exit code.

    Args:
        processes: how many to start.
        device: the value of `--device`.

    Raises:
        RunError: there are fewer GPUs than processes, a single device is named, or a launcher started this process.
        KeyboardInterrupt: the processes were interrupted.
    """
    _check_startable(processes, device)
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = os.environ.get("OMP_NUM_THREADS") or max(torch.get_num_threads() // processes, 1)
    settings = {
        "num_processes": processes,
        "num_machines": 1,
        "num_cpu_threads_per_process": threads,
        "mixed_precision": "no",
        "dynamo_backend": "no",
        "main_process_port": 0,  # any free port
    }
    words = [f"--{name}={value}" for name, value in settings.items()]
    command = launch_command_parser().parse_args(
        ["--multi_gpu", *words, "-m", "icl_eval", *without_option(sys.argv[1:])]
    )
    os.environ[LAUNCHER] = str(os.getpid())
    logging.disable(logging.ERROR)  # the processes report their errors themselves
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            launch_command(command)
    except ChildFailedError as error:
        return _exit_code([failure.exitcode for failure in error.failures.values()])
    except SignalException as error:
        raise KeyboardInterrupt from error
    finally:
        logging.disable(logging.NOTSET)
        del os.environ[LAUNCHER]
    return 0


def stop_with_launcher(pause: float = 1.0) -> None:
    """Interrupt this process if the process that called `start` is killed, instead of running on in the background.

    Args:
        pause: seconds between two checks.
    """
    if (launcher := os.environ.pop(LAUNCHER, None)) is None:  # processes that this one starts have another parent
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(pause)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


def _check_startable(processes: int, device: str | None) -> None:
    """Check that this number of processes can be started.

    Raises:
        RunError: there are fewer GPUs than processes, a single device is named, or a launcher started this process.
    """
    import torch

    if (size := rank_and_world_size()[1]) > 1:
        raise RunError(f"{OPTION} starts processes, but a launcher has already started {size}; remove the option")
    if device not in (None, "cpu", "cuda"):
        raise RunError(
            f"--device {device} names one device, but {OPTION} {processes} needs one for each process; remove --device"
        )
    if _on_gpus(device) and processes > (found := torch.cuda.device_count()):
        raise RunError(
            f"{OPTION} {processes} needs {processes} GPUs, but there {'is 1' if found == 1 else f'are {found}'}"
        )


def without_option(words: Sequence[str]) -> list[str]:
    """The arguments of a command line without `--processes N`."""
    kept, skip = [], False
    for word in words:
        if not skip and word != OPTION and not word.startswith(f"{OPTION}="):
            kept.append(word)
        skip = word == OPTION
    return kept


def _on_gpus(device: str | None) -> bool:
    import torch

    return device != "cpu" and torch.cuda.is_available()


def _exit_code(codes: Sequence[int]) -> int:
    """The exit code for the exit codes of failed processes. Reports a killed process, which could not report itself."""
    killed = [-code for code in codes if code < 0 and -code not in (signal.SIGTERM, signal.SIGINT)]
    if killed:
        from icl_eval.cli.terminal import print_error

        print_error(
            f"a process was killed (signal {killed[0]}); all answers are stored, and the same command continues the run"
        )
        return BUG
    if INTERRUPTED in codes and USER_ERROR not in codes:
        raise KeyboardInterrupt
    return USER_ERROR if USER_ERROR in codes else BUG
