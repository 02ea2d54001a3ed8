"""`icl-eval show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options, panels
from icl_eval.cli.terminal import Coloured, write

if TYPE_CHECKING:
    from icl_eval.models import LanguageModel
    from icl_eval.runs.questions import EncodedQuery

SHOTS = 2
COLOURS = {"instruction": "magenta", "demonstration": "cyan", "query": "bright_white", "answer": "green", "mark": "red"}
MARK = Coloured("│", COLOURS["mark"])


def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or a path to its YAML file.")],
    shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=panels.ASKED,
            help="How many demonstrations. Default: 2, if the task has any to show.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=panels.ASKED, help="Prompt. Default: the task's own."),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(metavar="ID", rich_help_panel=panels.ASKED, help="Id of the example. Default: the first."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", rich_help_panel=panels.ASKED, help="Draw of demonstrations.")
    ] = 0,
    model: Annotated[str, options.MODEL] = "tiny",
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    include: options.Include = None,
    tokenizer: Annotated[str | None, options.TOKENIZER] = None,
    revision: options.Revision = None,
    bos: options.BeginsWithBos = "auto",
    window: options.Window = None,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens", rich_help_panel=panels.RESULTS, help="Mark every token of the prompt, not only the answers'."
        ),
    ] = False,
) -> None:
    """Show the exact prompt of an example, and what of it is scored.

    It is what a run asks, token by token, and how much of the model's window it takes.
    """
    from icl_eval.prompts import doubled_space
    from icl_eval.runs.preview import preview

    names, library = options.library_for([task], include)
    where = options.data_of(data, data_dir, otherwise="sample" if model == "tiny" else "hub")
    asked = library.task(names[0])
    if shots is None:
        shots = 0 if asked.on(split, demonstrations).definition.splits.demonstrations is None else SHOTS
    question, lm, note = preview(
        asked,
        model,
        where,
        shots=shots,
        style=prompt,
        id=example,
        split=split,
        demonstrations=demonstrations,
        seed=seed,
        tokenizer=tokenizer,
        revision=revision,
        bos=options.begins_with_bos(bos),
        window=window,
    )
    write(*(_tokens(question, lm) if tokens else _prompt(question)), end="\n\n")
    for line in _options(question, lm):
        write(*line)
    write(_counts(question, lm))
    if note:
        write(f"note: {note}")
    for option, answer in zip(question.example.options, question.text.answers, strict=False):
        if problem := doubled_space(option, answer):
            write(f"note: {problem}")
            break


def _prompt(question: EncodedQuery) -> Iterator[str | Coloured]:
    """The prompt of the right option's request, its parts coloured and what is scored between brackets."""
    text, right = question.text, _right(question)
    if text.instruction:
        yield from (_part(text.instruction, "instruction"), text.separator)
    for each in text.shown(question.fitted.shots):
        yield from (_part(each, "demonstration"), text.separator)
    yield _part(text.queries[right], "query")
    yield from ("⟦", _part(text.answers[right], "answer"), "⟧")


def _tokens(question: EncodedQuery, lm: LanguageModel) -> Iterator[str | Coloured]:
    """The tokens of the right option's request, with a mark after each and what is scored between brackets."""
    scored = question.fitted.options[_right(question)]
    for token in lm.decode(scored.context):
        yield from (token, MARK)
    yield "⟦"
    for token in lm.decode(scored.continuation):
        yield from (_part(token, "answer"), MARK)
    yield "⟧"


def _right(question: EncodedQuery) -> int:
    """The option that the prompt is shown with: the first right one; of other answers the first reference."""
    return question.example.gold[0] if question.kind == "choice" else 0


def _options(question: EncodedQuery, lm: LanguageModel) -> Iterator[Sequence[str | Coloured]]:
    """One line per option: what is scored, token by token, and where it stands; or one per acceptable text."""
    if question.kind == "text":
        mark = "*" if question.example.gold else "-"
        yield from ([f"{mark} {_in_one_line(reference)}"] for reference in question.example.options)
        return
    for index, scored in enumerate(question.fitted.options):
        gold = "*" if index in question.example.gold else " "
        before = _in_one_line("".join(lm.decode(scored.context[-4:])))
        line: list[str | Coloured] = [f"{gold} ...{before}", MARK]
        for token in lm.decode(scored.continuation):
            line += [_part(_in_one_line(token), "answer"), MARK]
        yield [*line, f"  {len(scored.continuation)} tokens"]


def _counts(question: EncodedQuery, lm: LanguageModel) -> str:
    example, fitted = question.example, question.fitted
    shown = ", ".join(question.demonstrations) or "none"
    return (
        f"{question.cell.task}, prompt {question.cell.prompt}, example {example.id}, seed {question.cell.seed}: "
        f"{fitted.shots} of {question.cell.shots} demonstrations ({shown}); {_reads(question, lm)}"
    )


def _reads(question: EncodedQuery, lm: LanguageModel) -> str:
    from icl_eval.models import GenerateRequest

    longest = max(scored.input_length for scored in question.fitted.options)
    if isinstance(request := question.requests[0], GenerateRequest):
        prompt, most = len(request.tokens), request.decoding.max_tokens
        judged = "* is acceptable" if question.example.gold else "- is not the right answer"
        taken = f"the prompt takes {prompt} of {lm.window} tokens, the answer at most {most}"
        return f"{taken}; ⟦ ⟧ is a reference and not part of the prompt; {judged}"
    if question.kind == "likelihood":
        return (
            f"the text takes {longest} tokens, read in {len(question.requests)} windows of {lm.window}; ⟦ ⟧ is scored"
        )
    return f"the longest option reads {longest} of {lm.window} tokens; ⟦ ⟧ is scored; * is the right answer"


def _part(text: str, part: str) -> Coloured:
    return Coloured(text, COLOURS[part])


def _in_one_line(text: str) -> str:
    return text.replace("\n", "\\n")
