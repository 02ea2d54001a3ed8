"""The options of a run, each defined once: name, type, help, panel, default, and whether it can change a score.

`RunOptions` is the table of all options. `evaluate` takes them as keyword arguments, the command line has an option for
each, and the manifest stores those that can change a score.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, TypeVar, get_args, get_type_hints

from icl_eval.errors import UnknownName

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES: tuple[str, ...] = get_args(Dtype)
Quantization = Literal["8bit", "4bit"]
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]
PLL = Literal["l2r", "plain"]  # which tokens of a word are masked to score one of them
Overflow = Literal["drop", "error", "truncate"]
Draw = Literal["per_example", "per_group", "fixed", "first"]
ChatDemonstrations = Literal["turns", "message"]
ChatInstruction = Literal["system", "user"]
Function = TypeVar("Function", bound=Callable[..., Any])

HUB, SAMPLE = "hub", "sample"
EVALUATION, RESULTS, MODELS, DEVICES, SERVED = "What is evaluated", "Results", "Models", "Devices", "Served models"
PYTHON = "Python"  # options that the command line does not have
PANELS = (EVALUATION, RESULTS, MODELS, DEVICES, SERVED, PYTHON)


@dataclass(frozen=True, slots=True)
class Option:
    """An option, without its name and type.

    Attributes:
        help: what it does, in one line.
        panel: its heading in `--help`.
        metavar: the form of its value on the command line.
        default: its value if it is not given.
        flags: its names on the command line, if they differ from its name.
        changes_scores: whether it can change a score by more than rounding.
        minimum: the smallest number that the command line takes; None if there is none.
    """

    help: str
    panel: str
    metavar: str = ""
    default: Any = None
    flags: tuple[str, ...] = ()
    changes_scores: bool = False
    minimum: float | None = None


Stored = partial(Option, changes_scores=True)  # options that the manifest stores


class ModelOptions(TypedDict, total=False):
    """The options of `load_model`."""

    revision: Annotated[str | None, Stored("Revision of the model's repository on the Hub.", MODELS, "NAME")]
    tokenizer: Annotated[
        str | None,
        Stored(
            "Another tokenizer: a directory, a GGUF file, a name on the Hub, or `tiny`. An endpoint without --chat "
            "needs one.",
            MODELS,
            "MODEL",
        ),
    ]
    dtype: Annotated[
        Dtype,
        Stored(
            "Data type of the weights; auto is float32 on a CPU and the checkpoint's own on a GPU.",
            MODELS,
            default="auto",
        ),
    ]
    bos: Annotated[
        bool | None, Stored("Begin every text with the BOS token; auto does what the tokenizer does.", MODELS)
    ]
    max_length: Annotated[
        int | None, Stored("Context length in tokens, if the checkpoint does not state it.", MODELS, "N")
    ]
    chat: Annotated[
        bool,
        Stored(
            "Render prompts with the tokenizer's chat template; an endpoint gets messages.",
            MODELS,
            default=False,
        ),
    ]
    chat_args: Annotated[
        Mapping[str, Any] | None,
        Stored("Arguments of the chat template, such as enable_thinking=false.", MODELS, "NAME=VALUE,..."),
    ]
    chat_demonstrations: Annotated[
        ChatDemonstrations,
        Stored(
            "Demonstrations in a chat: turns of user and assistant, or one message with the query.",
            MODELS,
            default="turns",
        ),
    ]
    chat_instruction: Annotated[
        ChatInstruction,
        Stored(
            "The instruction in a chat: the system message, or the start of the first user message.",
            MODELS,
            default="system",
        ),
    ]
    quantize: Annotated[
        Quantization | None, Stored("Quantise the weights while they are loaded: LLM.int8 or NF4.", MODELS)
    ]
    pll: Annotated[
        PLL,
        Stored(
            "Masked models: l2r also masks the remaining tokens of the same word, plain does not.",
            MODELS,
            default="l2r",
        ),
    ]
    trust_remote_code: Annotated[
        bool,
        Option(
            "Run code from model repositories, of `python:` and `evaluate:` metrics, and of imported tasks.",
            MODELS,
            default=False,
        ),
    ]
    allow_pickle: Annotated[
        bool,
        Option(
            "Load pickled weights if there are no safetensors. Pickled weights can run code.", MODELS, default=False
        ),
    ]
    device: Annotated[str | None, Option("cpu, cuda, cuda:1 ... Default: a GPU if there is one.", DEVICES, "NAME")]
    device_map: Annotated[
        Mapping[str, int | str] | str | None,
        Option(
            "auto, balanced, balanced_low_0, sequential, or a YAML or JSON file that maps modules to devices.",
            DEVICES,
            "NAME|FILE",
        ),
    ]
    max_memory: Annotated[
        Mapping[int | str, int | str] | None,
        Option("Memory that a device map may use, such as 0=20GiB,cpu=30GiB.", DEVICES, "DEVICE=SIZE,..."),
    ]
    offload_dir: Annotated[
        str | Path | None, Option("Folder for weights on the disk. Default: a temporary folder.", DEVICES, "FOLDER")
    ]
    tensor_parallel: Annotated[
        bool, Option("Divide every layer of the model among the processes.", DEVICES, default=False)
    ]
    attn: Annotated[Attention | None, Option("Implementation of attention. Default: the fastest.", DEVICES)]
    served_name: Annotated[
        str | None, Stored("Name of the model at its endpoint. Default: the first one.", SERVED, "NAME")
    ]
    concurrency: Annotated[int, Option("Maximum number of requests in flight.", SERVED, "N", default=8)]
    timeout: Annotated[float, Option("Seconds to wait for a response.", SERVED, "SECONDS", default=120.0)]
    retries: Annotated[int, Option("Number of times to repeat a failed request.", SERVED, "N", default=6)]


class RunOptions(ModelOptions, total=False):
    """The options of `evaluate`."""

    shots: Annotated[
        int | Sequence[int],
        Stored(
            "Numbers of demonstrations, such as 0,1,4,32. Default: each task's own.", EVALUATION, "N,...", default=()
        ),
    ]
    seeds: Annotated[
        int | Sequence[int],
        Stored(
            "Number of seeds, which draw the demonstrations, or the seeds themselves, such as 3,4,5.",
            EVALUATION,
            "N|N,...",
            default=1,
        ),
    ]
    prompts: Annotated[
        str | Sequence[str],
        Stored(
            "Prompts by name. Default: each task's first; with zero shots, its zero_shot_prompt if it has one.",
            EVALUATION,
            "NAME,...",
            default=(),
            flags=("--prompt",),
        ),
    ]
    formats: Annotated[
        int | str | None,
        Stored(
            "Evaluate each prompt and N - 1 variants of its format with the same meaning, drawn with SEED (0).",
            EVALUATION,
            "N|N:SEED",
        ),
    ]
    budget: Annotated[
        int | None,
        Stored(
            "Search for the best and the worst format with N examples, and evaluate only these and the prompt itself.",
            EVALUATION,
            "N",
        ),
    ]
    data: Annotated[
        str | Path, Stored("`hub`, `sample`, or the directory of an official release.", PYTHON, default=HUB)
    ]
    split: Annotated[str | None, Stored("Evaluate this split. Default: each task's own.", EVALUATION, "NAME")]
    fewshot_split: Annotated[
        str | None,
        Stored("Draw demonstrations from this split. An example is never its own demonstration.", EVALUATION, "NAME"),
    ]
    draw: Annotated[
        Draw | None,
        Stored(
            "Draw demonstrations for each query, for each group, or for all queries; or use the first ones.", EVALUATION
        ),
    ]
    select: Annotated[
        str | Sequence[str],
        Stored(
            "How to select demonstrations: random, balanced, bm25, knn, dpp, mdl, vote-k:MofN, fast-vote-k, diverse.",
            EVALUATION,
            "NAME,...",
            default=(),
        ),
    ]
    encoder: Annotated[
        str | None,
        Stored("Model of `transformers` whose vectors measure similarity, instead of TF-IDF.", EVALUATION, "MODEL"),
    ]
    order: Annotated[
        str | Sequence[str],
        Stored(
            "Orders of demonstrations: drawn, reversed, balanced (alternating labels), similar-last, permutations:N.",
            EVALUATION,
            "NAME,...",
            default=(),
        ),
    ]
    labels: Annotated[
        str | Sequence[str],
        Stored(
            "Labels of demonstrations: gold, random, flipped, permuted, abstract, abstract:WORD/..., corrupt:P.",
            EVALUATION,
            "NAME,...",
            default=(),
        ),
    ]
    fewshot_ids: Annotated[
        str | Sequence[str],
        Stored(
            "Use the demonstrations with these ids, in this order. By default, --shots is then their number.",
            EVALUATION,
            "ID,...",
            default=(),
        ),
    ]
    limit: Annotated[
        int | str | None,
        Stored(
            "Evaluate a pseudo-random sample of N examples (or groups of examples), the first N, or OLMES's sample.",
            EVALUATION,
            "N|first:N|olmes",
        ),
    ]
    until: Annotated[
        float | None,
        Stored(
            "Stop a task when its score on the whole split is known to ±WIDTH, such as 0.01, with 95 % confidence.",
            EVALUATION,
            "WIDTH",
        ),
    ]
    overflow: Annotated[
        Overflow,
        Stored(
            "If a prompt is too long: drop demonstrations, fail, or also truncate the query.",
            EVALUATION,
            default="drop",
        ),
    ]
    per_shot_loss: Annotated[
        bool,
        Stored(
            "Report the loss of each demonstration's answer, given the demonstrations before it.",
            EVALUATION,
            default=False,
        ),
    ]
    decode: Annotated[
        Mapping[str, Any] | None,
        Stored(
            "Change how texts are generated, such as beams=1,max_tokens=32. Default: each task's own.",
            EVALUATION,
            "NAME=VALUE,...",
        ),
    ]
    calibrate: Annotated[
        str | Sequence[str],
        Stored(
            "Calibrations to score by, in addition to the normalisation: contextual, contextual-identity, dc-pmi, "
            "batch, prototypical.",
            EVALUATION,
            "NAME,...",
            default=(),
        ),
    ]
    content_free: Annotated[
        str | Sequence[str],
        Stored(
            "Content-free inputs of contextual calibration. Default: N/A, [MASK] and an empty text.",
            EVALUATION,
            "INPUT,...",
            default=(),
        ),
    ]
    normalizations: Annotated[
        str | Sequence[str],
        Option(
            "Normalisations to score by: sum, token, char, byte, unconditional or all; or calibrations. Default: each "
            "task's own, and --calibrate.",
            RESULTS,
            "NAME,...",
            default=(),
            flags=("--normalization",),
        ),
    ]
    metrics: Annotated[
        str | Callable[..., Any] | Sequence[str | Callable[..., Any]],
        Stored(
            "Metrics to compute, for tasks whose answers they fit. Default: each task's own.",
            RESULTS,
            "NAME,...",
            default=(),
        ),
    ]
    out: Annotated[
        str | Path | None,
        Option("Run folder. Default: a folder in results/ named after the options.", RESULTS, "FOLDER"),
    ]
    keep: Annotated[bool, Option("Store the run in a folder in results/ if `out` is not given.", PYTHON, default=False)]
    note: Annotated[
        str | None, Option("A sentence that is stored in the manifest and printed above the scores.", PYTHON)
    ]


def table(options: type) -> dict[str, tuple[Any, Option]]:
    """The type and the `Option` of each entry of a table of options, in the order of panels."""
    hints = get_type_hints(options, include_extras=True)
    entries = {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items()}
    return dict(sorted(entries.items(), key=lambda entry: PANELS.index(entry[1][1].panel)))


TYPES = {name: kind for name, (kind, _) in table(RunOptions).items()}
OPTIONS = {name: option for name, (_, option) in table(RunOptions).items()}
DEFAULTS: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}


def check_known(options: Iterable[str], known: Iterable[str] = tuple(OPTIONS)) -> None:
    """Raise `UnknownName` for an option that does not exist."""
    names = list(known)
    for name in options:
        if name not in names:
            raise UnknownName("option", name, names)


def takes_options(function: Function) -> Function:
    """Add the options of a run to the signature and docstring of a function that takes them as keyword arguments."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=TYPES[name])
        for name, option in OPTIONS.items()
        if name not in signature.parameters
    ]
    lines = "\n".join(f"        {each.name}: {OPTIONS[each.name].help}" for each in options)
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    function.__doc__ = f"{function.__doc__}\n    Options:\n{lines}\n    "
    return function
