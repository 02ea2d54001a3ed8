"""`icl-eval show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options

if TYPE_CHECKING:
    from rich.text import Text

    from icl_eval.models import LanguageModel
    from icl_eval.runs.questions import Question

STYLES = {"instruction": "magenta", "demonstration": "cyan", "query": "bold", "answer": "green"}


def show(
    task: Annotated[str, typer.Argument(help="A task's name, or a path to its YAML file.")],
    shots: Annotated[int, typer.Option(min=0, help="Demonstrations.")] = 2,
    prompt: Annotated[str | None, typer.Option(help="Prompt. Default: the task's first.")] = None,
    example: Annotated[str | None, typer.Option(help="Id of the example. Default: the first.")] = None,
    seed: Annotated[int, typer.Option(help="Draw of demonstrations.")] = 0,
    model: Annotated[str, options.MODEL] = "tiny",
    data: options.Data = None,
    data_dir: options.DataDir = None,
    include: options.Include = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Mark every token of the prompt, not only the answers'.")
    ] = False,
) -> None:
    """Show the exact prompt of an example, as a run would ask it, with the tokens that are scored."""
    from rich.console import Console

    from icl_eval.runs.preview import preview

    names, library = options.library_for([task], include)
    where = options.data_of(data, data_dir, otherwise="sample" if model == "tiny" else "hub")
    question, lm = preview(library.task(names[0]), model, where, shots=shots, style=prompt, id=example, seed=seed)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_tokens(question, lm) if tokens else _prompt(question))
    console.print()
    for line in _options(question, lm):
        console.print(line)
    console.print(_counts(question, lm), markup=False)


def _prompt(question: Question) -> Text:
    """The prompt as the first option's request has it, its parts coloured."""
    from rich.text import Text

    text = question.text
    shown = text.demonstrations[: question.fitted.shots]
    pieces = [
        (text.instruction, "instruction"),
        *((each, "demonstration") for each in shown),
        (text.queries[0], "query"),
    ]
    whole = Text(text.separator).join(Text(piece, style=STYLES[part]) for piece, part in pieces if piece)
    return whole.append(text.answers[0], style=STYLES["answer"])


def _tokens(question: Question, lm: LanguageModel) -> Text:
    from rich.text import Text

    scored = question.fitted.options[0]
    whole = Text()
    for ids, style in ((scored.context, ""), (scored.continuation, STYLES["answer"])):
        for token in lm.decode(ids):
            whole.append(token, style=style).append("│", style="dim red")
    return whole


def _options(question: Question, lm: LanguageModel) -> list[Text]:
    """One line per option: what is scored, token by token, and where it stands."""
    from rich.text import Text

    lines = []
    for index, scored in enumerate(question.fitted.options):
        mark = "*" if index in question.example.gold else " "
        before = "".join(lm.decode(scored.context[-4:]))
        line = Text(f"{mark} ").append(f"...{before}│".replace("\n", "\\n"), style="dim")
        for token in lm.decode(scored.continuation):
            line.append(token.replace("\n", "\\n"), style=STYLES["answer"]).append("│", style="dim red")
        lines.append(line.append(f"  {len(scored.continuation)} tokens", style="dim"))
    return lines


def _counts(question: Question, lm: LanguageModel) -> str:
    example, fitted = question.example, question.fitted
    longest = max(scored.input_length for scored in fitted.options)
    return (
        f"{question.cell.task}, prompt {question.cell.prompt}, example {example.id}, seed {question.cell.seed}: "
        f"{fitted.shots} of {question.cell.shots} demonstrations ({', '.join(question.demonstrations) or 'none'}); "
        f"the longest option reads {longest} of {lm.window} tokens; * is the right answer"
    )
