"""Runs commands and records what reaches a model, a loader, a server or a file."""

from __future__ import annotations

import copy
import gc
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
import transformers
from completions import Completions, Habits, serving, wait_for_nothing
from models import architectures, kinds
from models.checkpoints import byte_tokenizer
from toy_tasks import knowing, write

from icl_eval.engine import Engine
from icl_eval.models import meta_model
from icl_eval.models.chat import TokenizerTemplate
from icl_eval.models.meta_model import cache_size

from .shell import IclEval, Shell

GENERATED = """\
task: toy/written
about: A number in words.
answer: text
data:
  local: {train: parity/train.jsonl, validation: parity/val.jsonl}
splits: {demonstrations: train, evaluation: validation}
id: n
fields: {n: n}
references: label
decode: {max_tokens: 4, beams: 2}
prompts: [plain]
protocol: {shots: 0}
"""


CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if mood %}({{ mood }}){% endif %}<assistant>{% endif %}"
)
HARNESS = """\
task: NAME
dataset_path: zoo/NAME
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_target: a
doc_to_choice: [wren, duck]
"""


class BoundaryReached(BaseException):
    """Ends a command after the call that the test needs has been recorded."""


@dataclass(frozen=True)
class Call:
    """A call of a loader."""

    name: str
    source: Any
    arguments: dict[str, Any]


Requests = list[tuple[str, Any]]


@dataclass
class CommandRecorder:
    """Runs commands and records what arrives.

    Attributes:
        command: the command line.
        patch: its patches are undone after each command.
        shell: exit code and output of the last command.
        has_run: whether the test has run a command before, so that files may differ from those of a new test.
        is_patched: whether the test records more than requests and output.
    """

    command: IclEval
    patch: pytest.MonkeyPatch
    shell: Shell = field(default_factory=lambda: Shell(0, "", ""))
    has_run: bool = False
    is_patched: bool = False

    def run(self, *words: str) -> Shell:
        """Run a command without the results of earlier ones; it may end with `BoundaryReached`."""
        self.has_run = True
        shutil.rmtree("results", ignore_errors=True)
        try:
            self.shell = self.command(*words)
        except BoundaryReached:
            self.shell = Shell(0, "", "")
        return self.shell

    @contextmanager
    def patching(self) -> Iterator[pytest.MonkeyPatch]:
        with self.patch.context() as patch:
            self.is_patched = True
            yield patch
            self.is_patched = False

    def requests(self, *words: str, window: int = 2**20) -> Requests:
        """The text of every request of a command, with its decoding; None for requests to score.

        A command that is the first of a test is run once for all tests, unless the test patches more.
        """
        if self.has_run or self.is_patched:
            return self._requests(words, window)
        if (words, window) not in RECORDED:
            RECORDED[words, window] = self._requests(words, window), self.shell
        recorded, self.shell = RECORDED[words, window]
        return recorded

    def _requests(self, words: tuple[str, ...], window: int) -> Requests:
        found: Requests = []
        lm = knowing(0, 1, 2)
        lm.window = window
        tokenizer = byte_tokenizer()

        def record(requests: Sequence[Any], decode: Callable[[Any], str]) -> None:
            found.extend((decode(each.tokens), getattr(each, "decoding", None)) for each in requests)

        def recording(answer: Any) -> Any:
            def method(requests: Any, sink: Any) -> None:
                record(requests, lambda tokens: bytes(tokens.tolist()).decode())
                answer(requests, sink)

            return method

        def workload(engine: Engine, requests: Any, planned: Any) -> Any:
            record(requests, lambda tokens: tokenizer.decode(tokens.tolist()))
            return work(engine, requests, planned)

        work = Engine.workload
        with self.patch.context() as patch:
            patch.setattr(
                lm, "chat_template", lambda given: TokenizerTemplate(trained("causal")[1], lm.controls, given)
            )
            patch.setattr(lm, "score", recording(lm.score))
            patch.setattr(lm, "generate", recording(lm.generate))
            patch.setattr("icl_eval.runs.model.load", lambda *_: lm)
            patch.setattr(gc, "collect", lambda: 0)  # between the models of a sweep, which takes long
            patch.setattr("icl_eval.runs.check.load", lambda *_: lm)
            if words[0] in ("plan", "check"):
                self._loaders(patch, computes=False)
                patch.setattr(Engine, "workload", workload)
                patch.setattr(meta_model, "cache_size", stored_cache_size)
            self.run(*words)
        return found

    def calls(self, *words: str, computes: bool = False, family: str = "causal") -> list[Call]:
        """The calls of the loaders of `transformers`; the command ends at the model, unless it `computes`."""
        with self.patch.context() as patch:
            found = self._loaders(patch, computes=computes, family=family)
            self.run(*words)
        return found

    def _loaders(self, patch: pytest.MonkeyPatch, *, computes: bool, family: str = "causal") -> list[Call]:
        found: list[Call] = []
        model, tokenizer = trained(family)
        loader: Any = transformers.AutoModelForCausalLM if family == "causal" else transformers.AutoModelForMaskedLM

        def watch(owner: Any, name: str, give: Callable[[], Any]) -> None:
            def from_pretrained(source: Any, **given: Any) -> Any:
                found.append(Call(name, source, given))
                return give()

            patch.setattr(owner, "from_pretrained", from_pretrained)

        def loaded() -> Any:
            if not computes:
                raise BoundaryReached
            return model, {"missing_keys": [], "unexpected_keys": []}

        def cached(place: str, file: str, revision: str | None) -> str:
            return f"cache/{revision or 'main'}/{file}"

        watch(transformers.AutoConfig, "config", lambda: copy.deepcopy(model.config))
        watch(transformers.AutoTokenizer, "tokenizer", lambda: tokenizer)
        watch(loader, "model", loaded)
        patch.setattr("transformers.utils.hub.cached_file", cached)
        return found

    def served(self, *words: str, **habits: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The request bodies that a command sends to the server `URL`, and the arguments of its HTTP clients."""
        clients: list[dict[str, Any]] = []

        class Client(httpx2.AsyncClient):
            def __init__(self, **given: Any) -> None:
                clients.append(given)
                super().__init__(**given)

        models = [{"id": name, "max_model_len": 512} for name in ("first", "second")]
        server = Completions(*trained("causal"), replace(Habits(models=models, **habits), first=deque()))
        with self.patch.context() as patch, serving(server) as url:
            self._loaders(patch, computes=False)
            patch.setattr(httpx2, "AsyncClient", Client)
            wait_for_nothing(patch)
            self.run(*(url if word == "URL" else word for word in words))
        return server.requests, clients


RECORDED: dict[tuple[tuple[str, ...], int], tuple[Requests, Shell]] = {}
CACHE_SIZES: dict[int, Any] = {}


def stored_cache_size(model: Any, tokens: int) -> Any:
    """The size of the cache after a number of tokens, computed once, since all planned models are of one kind."""
    if tokens not in CACHE_SIZES:
        CACHE_SIZES[tokens] = cache_size(model, tokens)
    return CACHE_SIZES[tokens]


@cache
def trained(family: str) -> tuple[Any, Any]:
    """A tiny random model and its tokenizer."""
    if family == "causal":
        return architectures.build("llama", vocab_size=258, max_position_embeddings=512), byte_tokenizer(
            chat_template=CHAT
        )
    return kinds.build("bert"), kinds.tokenizer_for("bert")


def write_extra_files(folder: Path) -> None:
    """Write other data and tasks next to the toy library, and folders that stand for checkpoints."""
    for split, first in (("train", 300), ("val", 200)):
        lines = [json.dumps({"n": n, "pair": n // 2, "label": n % 2}) for n in range(first, first + 8)]
        write(folder, f"other/parity/{split}.jsonl", "\n".join(lines) + "\n")
    write(folder, "tasks/toy/written.yaml", GENERATED)
    for name, code in (("birds", ""), ("code", "process_docs: !function code.f\n")):
        write(folder, f"{name}.yaml", HARNESS.replace("NAME", name) + code)
    write(folder, "rules.yaml", "extract: {last: [last_number]}\n")
    write(folder, "corpus.txt", "q 3 a odd")
    write(folder, "corpus.jsonl", '{"said": "q 3 a odd"}\n')
    write(folder, "prompts/toy/written/plain.jinja", "Q: {{ n }}\nA:")
    parity = (folder / "tasks/toy/parity.yaml").read_text()
    trusting = parity.replace("toy/parity", "toy/trusting").replace("[accuracy]", "['evaluate:agreement']")
    write(folder, "tasks/toy/trusting.yaml", trusting)
    write(folder, "prompts/toy/trusting/plain.jinja", "Q: {{ n }}\nA:")
    write(folder, "prompts/toy/trusting/chatty.jinja", "Q: {{ n }}\nA:")
    write(folder, "tasks/toy/parts.yaml", parity.replace("toy/parity", "toy/parts") + "by: n\n")
    write(folder, "prompts/toy/parts/plain.jinja", "Q: {{ n }}\nA:")
    write(folder, "prompts/toy/parts/chatty.jinja", "Q: {{ n }}\nA:")
    write(folder, "bundled/tasks/sky.yaml", parity.replace("toy/parity", "sky"))
    write(folder, "more/tasks/more/parity.yaml", parity.replace("toy/parity", "more/parity"))
    for style in ("plain", "chatty"):
        write(folder, f"bundled/prompts/sky/{style}.jinja", "Q: {{ n }}\nA:")
        write(folder, f"more/prompts/more/parity/{style}.jinja", "Q: {{ n }}\nA:")
    for name in ("llama", "words"):
        write(folder, f"{name}/config.json", "{}")
