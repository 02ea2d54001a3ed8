"""Runs by several processes, each started here as a launcher would start it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds, for a machine that does something else as well
SCRIPT = """
import sys
from icl_eval import Task, evaluate
from icl_eval.testing import FakeLM
from toy_tasks import knowing, parity

def text(draw="per_example"):
    records = [{"text": f"{n} is one more than {n - 1}, and {n + 1} is one more than {n}"} for n in range(1, 40)]
    prompt = ("{% block instruction %}" + "Numbers follow one another. " * 12 + "{% endblock %}"
              "{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}")
    return Task.from_records("text", evaluation=records, prompt=prompt, answer="likelihood", references="text",
                             metrics=["token_perplexity"], draw=draw)

"""


def environment(rank: int = 0, size: int = 1, port: int = 0) -> dict[str, str]:
    """What a process of a run finds in its environment."""
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    if size > 1:
        variables |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
        }
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return os.environ | variables


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(code: str, folder: Path, size: int) -> list[subprocess.Popen[str]]:
    """Processes that run `code` with `sys.argv[1]` as the run folder."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT + code, str(folder)],
            env=environment(rank, size, port),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    try:
        outputs = [process.communicate(timeout=TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *each) for process, each in zip(processes, outputs, strict=True)]


def run(code: str, folder: Path, size: int) -> list[str]:
    """What each process prints, all of which must succeed and complain of nothing."""
    done = finish(start(code, folder, size))
    assert [(code, err) for code, _, err in done] == [(0, "")] * size, done
    return [out for _, out, _ in done]


FORK = """
import os
import accelerate  # takes longest, and is imported once for all
children = []
for rank in range(int(os.environ["WORLD_SIZE"])):
    children.append(os.fork())
    if children[-1] == 0:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.dup2(os.open(f"{sys.argv[1]}.{rank}.out", os.O_CREAT | os.O_WRONLY), sys.stdout.fileno())
        break
else:
    os._exit(max([os.waitpid(child, 0)[1] for child in children]) and 1)
"""


def run_forked(code: str, folder: Path, size: int) -> list[str]:
    """What `run` gives, of processes that one has started."""
    command = [sys.executable, "-c", SCRIPT + FORK + code, str(folder)]
    env = environment(0, size, free_port())
    done = subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, ""), done
    return [Path(f"{folder}.{rank}.out").read_text() for rank in range(size)]
