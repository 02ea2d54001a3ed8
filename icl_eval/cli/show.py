"""`icl-eval show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from icl_eval.cli import options
from icl_eval.cli.terminal import Coloured, write
from icl_eval.config import EVALUATION, RESULTS, Option
from icl_eval.errors import counted

if TYPE_CHECKING:
    from icl_eval.models import LanguageModel
    from icl_eval.runs.requests import EncodedQuery

SHOTS = 2
COLOURS = {"instruction": "magenta", "demonstration": "cyan", "query": "bright_white", "answer": "green", "mark": "red"}
MARK = Coloured("│", COLOURS["mark"])


@options.takes(
    "formats",
    "split",
    "fewshot_split",
    "draw",
    "select",
    "encoder",
    "order",
    "fewshot_ids",
    "labels",
    "chat_demonstrations",
    *options.ENCODING_OPTIONS,
)
def show(
    tasks: list[str] | None,
    task: list[str] | None,
    *,
    model: str | None,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    shots: Annotated[
        int | None,
        Option("Number of demonstrations. Default: 2, or 0 if the task has none.", EVALUATION, "N", minimum=0),
    ] = None,
    prompt: Annotated[str | None, Option("Name of the prompt. Default: the task's first.", EVALUATION, "NAME")] = None,
    example: Annotated[str | None, Option("Id of the example. Default: the first.", EVALUATION, "ID")] = None,
    seed: int,
    tokens: Annotated[bool, Option("Mark all tokens of the prompt, not only those of the answers.", RESULTS)] = False,
    split: str | None,
    fewshot_split: str | None,
    **query_options: Any,
) -> None:
    """Show the exact prompt of an example and its scored tokens.

    The prompt is made by the same code as in a run. With --formats, or with several values of --select, --labels or
    --order, each variant of the prompt is shown with its changes.
    """
    from icl_eval.prompts import doubled_space
    from icl_eval.runs.check import previews

    found = options.one_task("show", tasks, task, include)
    query_options = options.read(query_options)
    if shots is None and found.on(split, fewshot_split).definition.splits.demonstrations is None:
        shots = 0
    elif shots is None:
        shots = len(query_options["fewshot_ids"]) or SHOTS
    formats, lm, note = previews(
        found,
        model or "tiny",
        id=example,
        data=options.data_for(model, data, data_dir),
        shots=shots,
        seeds=(seed,),
        prompts=prompt or (),
        split=split,
        fewshot_split=fewshot_split,
        **query_options,
    )
    query = formats[""]
    for words, each in formats.items():
        if len(formats) > 1:
            write(f"{each.cell.prompt}{f': {words}' if words else ''}", end="\n\n")
        write(*(_tokens(each, lm) if tokens else _prompt(each)), end="\n\n")
    for line in _options(query, lm):
        write(*line)
    write(_counts(query, lm))
    if note:
        write(f"note: {note}")
    for option, answer in zip(query.example.options, query.text.answers, strict=False):
        if problem := doubled_space(option, answer):
            write(f"note: {problem}")
            break


def _prompt(query: EncodedQuery) -> Iterator[str | Coloured]:
    """The prompt with the right option, in coloured parts; the scored text is in brackets."""
    text, right = query.text, _right(query)
    for piece, part in text.parts(right, query.shots):
        yield _part(piece, part) if part else piece
    yield from ("⟦", _part(text.answers[right], "answer"), "⟧")


def _tokens(query: EncodedQuery, lm: LanguageModel) -> Iterator[str | Coloured]:
    """The tokens of the prompt with the right option, with a mark after each; the scored tokens are in brackets."""
    context, answer = _ids(query, _right(query))
    for token in lm.decode(context):
        yield from (token, MARK)
    yield "⟦"
    for token in lm.decode(answer):
        yield from (_part(token, "answer"), MARK)
    yield "⟧"


def _ids(query: EncodedQuery, option: int) -> tuple[list[int], list[int]]:
    """The token ids of the context and of the scored answer, which may come from several windows."""
    from icl_eval.models import ScoreRequest

    requests = query.requests if query.kind == "likelihood" else query.requests[option : option + 1]
    scored = [each for each in requests if isinstance(each, ScoreRequest)]
    context = scored[0].tokens[: scored[0].boundary] if scored else requests[0].tokens
    return list(context), [token for each in scored for token in each.tokens[each.boundary :]]


def _right(query: EncodedQuery) -> int:
    """Index of the option that is shown: the first right option, or for other answers the first reference."""
    return query.example.gold[0] if query.kind == "choice" else 0


def _options(query: EncodedQuery, lm: LanguageModel) -> Iterator[Sequence[str | Coloured]]:
    """One line per option with its scored tokens, or one line per reference."""

    if query.kind == "text":
        mark = "*" if query.example.gold else "-"
        yield from ([f"{mark} {_in_one_line(reference)}"] for reference in query.example.options)
        return
    for index in range(len(query.text.answers)):
        context, answer = _ids(query, index)
        gold = "*" if index in query.example.gold else " "
        before = _in_one_line("".join(lm.decode(context[-4:])))
        line: list[str | Coloured] = [f"{gold} ...{before}", MARK]
        for token in lm.decode(answer):
            line += [_part(_in_one_line(token), "answer"), MARK]
        yield [*line, f"  {counted(len(answer), 'token')}"]


def _counts(query: EncodedQuery, lm: LanguageModel) -> str:
    example = query.example
    shown = ", ".join(query.demonstrations) or "none"
    return (
        f"{query.cell.task}, prompt {query.cell.prompt}, example {example.id}, seed {query.cell.seed}: "
        f"{query.shots} of {counted(query.cell.shots, 'demonstration')} ({shown})\n{_reads(query, lm)}"
    )


def _reads(query: EncodedQuery, lm: LanguageModel) -> str:
    from icl_eval.models import GenerateRequest

    longest = query.input_length
    if isinstance(request := query.requests[0], GenerateRequest):
        prompt, most = len(request.tokens), request.decoding.max_tokens
        judged = "* is acceptable" if query.example.gold else "- is not the right answer"
        taken = f"{lm.name}: the prompt takes {prompt} of {lm.window} tokens, the answer at most {most}"
        return f"{taken}\n⟦ ⟧ is a reference and not part of the prompt; {judged}"
    if query.kind == "likelihood":
        windows = f"{counted(len(query.requests), 'window')} of {lm.window}"
        return f"{lm.name}: the text takes {counted(longest, 'token')}, read in {windows}\n⟦ ⟧ is scored"
    taken = f"{lm.name}: the prompt and its longest option take {longest} of {lm.window} tokens"
    return f"{taken}\n⟦ ⟧ is scored; * is the right answer"


def _part(text: str, part: str) -> Coloured:
    return Coloured(text, COLOURS[part])


def _in_one_line(text: str) -> str:
    return text.replace("\n", "\\n")
