from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from superglue_records import write_release

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval


def test_show_prints_the_prompt_and_the_scored_tokens(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("show", "toy/parity", "--shots", "0", "--prompt", "chatty", "--example", "3", *TOY)

    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "Even or odd?\n\nQ: 3\nA:⟦ odd⟧\n"
        "\n"
        "  ...3\\nA:│ │e│v│e│n│  5 tokens\n"
        "* ...3\\nA:│ │o│d│d│  4 tokens\n"
        "toy/parity, prompt chatty, example 3, seed 0: 0 of 0 demonstrations (none)\n"
        f"fake: the prompt and its longest option take 25 of {2**20} tokens\n"
        "⟦ ⟧ is scored; * is the right answer\n"
    )


def test_show_prints_every_variant_of_labels_and_orders(icl_eval: IclEval, lm: FakeLM) -> None:
    options = ("--labels", "gold,flipped", "--order", "drawn,reversed", "--formats", "2")
    result = icl_eval("show", "toy/parity", "--shots", "2", *options, *TOY)
    names = re.findall(r"^plain(?:~f1)?(?:: .*)?$", result.out, re.MULTILINE)
    plain, reversed_, flipped, _ = re.split(r"^plain.*\n\n", result.out, flags=re.MULTILINE)[1:5]

    assert (result.code, len(names)) == (0, 8)
    assert names[:4] == [
        "plain",
        "plain: order=reversed",
        "plain: labels=flipped",
        "plain: labels=flipped, order=reversed",
    ]
    first, second, query = plain.strip().split("\n\n")
    assert reversed_.strip().split("\n\n") == [second, first, query]
    other = {"even": "odd", "odd": "even"}
    assert flipped.strip().split("\n\n") == [
        re.sub("even|odd", lambda word: other[word[0]], each) for each in (first, second)
    ] + [query]


def test_show_prints_every_selection(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("show", "toy/parity", "--shots", "2", "--select", "random,bm25", *TOY)

    assert re.findall(r"^plain.*$", result.out, re.MULTILINE) == ["plain", "plain: select=bm25, order=similar-last"]


def test_show_rejects_an_option_that_needs_more_demonstrations(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("show", "toy/parity", "--shots", "0", "--labels", "random", *TOY)

    assert result.mistake == "`labels` has no effect: it needs 1 or more demonstrations, and no prompt has more than 0"


def test_show_prints_a_prompt_that_the_run_scores(icl_eval: IclEval, lm: FakeLM) -> None:
    recorded = RecordedTexts(lm)
    icl_eval("run", "-t", "toy/parity", "--shots", "2", "--seeds", "1,", "--limit", "first:1", *TOY)
    result = icl_eval("show", "toy/parity", "--shots", "2", "--seed", "1", *TOY)

    assert re.sub("[⟦⟧]", "", result.out.split("\n\n  ...")[0].split("\n\n* ...")[0]) in recorded.texts
    assert len(recorded.texts) == 4  # each option after the prompt, and after the answer context


@pytest.mark.parametrize(("more", "demonstrations"), [((), 0), (("--fewshot-split", "train"), 2)])
def test_show_of_a_task_without_demonstrations_has_0_shots_by_default(
    more: tuple[str, ...], demonstrations: int, icl_eval: IclEval, lm: FakeLM
) -> None:
    path = Path("tasks/toy/parity.yaml")
    path.write_text(path.read_text().replace("demonstrations: train, ", ""))
    result = icl_eval("show", "toy/parity", *more, *TOY)

    assert f"seed 0: {demonstrations} of {demonstrations} demonstrations (" in result.out


def test_show_reads_the_given_splits(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("show", "toy/parity", "--shots", "7", "--split", "train", "--fewshot-split", "validation", *TOY)

    assert "Q: 100\nA:⟦ even⟧" in result.out
    assert "example 100, seed 0: 7 of 7 demonstrations (" in result.out
    assert {f"Q: {number}\n" in result.out for number in range(1, 8)} == {True, False}


@pytest.mark.parametrize(("example", "last"), [("0", "* carl"), ("1", "- the mast")])
def test_show_marks_a_reference_as_right_or_wrong(example: str, last: str, icl_eval: IclEval, tmp_path: Path) -> None:
    data = ["--data-dir", str(write_release(tmp_path / "release")), "--split", "train"]
    result = icl_eval("show", "superglue-generated/wsc", "--shots", "0", "--example", example, *data)

    assert f"\n\n{last}\nsuperglue-generated/wsc, prompt gpt3, example {example}, " in result.out
    assert result.out.endswith("* is acceptable\n" if last[0] == "*" else "- is not the right answer\n")


@pytest.mark.parametrize("text", ["tab\there", "x" * 90 + "  \n  y", "[red]{{ n }}[/red]:a:"])
def test_show_changes_no_character_of_the_prompt(text: str, icl_eval: IclEval, lm: FakeLM) -> None:
    Path("prompts/toy/parity/plain.jinja").write_text(f"{text}\nQ: {{{{ n }}}}:", newline="")
    result = icl_eval("show", "toy/parity", "--shots", "0", *TOY)

    assert result.out.startswith(f"{text.replace('{{ n }}', '0')}\nQ: 0:⟦ even⟧\n\n")


def test_show_counts_the_bos_token(icl_eval: IclEval) -> None:
    results = [
        icl_eval("show", "toy/parity", "--shots", "0", "--bos", bos, "--max-length", 100, *options, *TOY).out
        for bos in ("no", "yes")
        for options in ([], ["--tokenizer", "tiny"])
    ]

    lengths = [int(text.split(" take ")[1].split(" of 100 tokens")[0]) for text in results]
    assert lengths == [lengths[0], lengths[0], lengths[0] + 1, lengths[0] + 1]


def test_show_of_an_endpoint_requires_a_tokenizer(icl_eval: IclEval) -> None:
    message = icl_eval("show", "toy/parity", "--model", "http://localhost:1/v1", *TOY).mistake

    assert message.startswith("an endpoint needs --tokenizer, ")


def test_show_tokens_marks_every_token(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("show", "toy/parity", "--shots", "0", "--tokens", *TOY)

    assert result.out.startswith("Q│:│ │0│\n│A│:│⟦ │e│v│e│n│⟧\n\n")


def test_show_prints_only_demonstrations_that_fit_the_context_length(icl_eval: IclEval, lm: FakeLM) -> None:
    lm.window = 40
    result = icl_eval("show", "toy/parity", "--shots", "5", *TOY)

    assert result.out.count("Q: ") == 2
    assert ": 1 of 5 demonstrations (1" in result.out
    assert "of 40 tokens" in result.out


def test_show_uses_colours_only_in_a_terminal(icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = icl_eval("show", "toy/parity", "--shots", "1", *TOY).out
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    coloured = icl_eval("show", "toy/parity", "--shots", "1", *TOY).out
    monkeypatch.setenv("NO_COLOR", "1")
    without_colours = icl_eval("show", "toy/parity", "--shots", "1", *TOY).out

    assert "\x1b" not in plain
    assert "\x1b[32m even\x1b[0m" in coloured
    assert without_colours == plain


class RecordedTexts:
    """Records the texts that a model scores, context and continuation together."""

    def __init__(self, lm: FakeLM) -> None:
        self.texts: list[str] = []
        answer = lm.score

        def score(requests: Any, sink: Any) -> None:
            self.texts += [bytes(request.tokens.tolist()).decode() for request in requests]
            answer(requests, sink)

        lm.score = score  # type: ignore[method-assign]


def test_show_prints_any_script_unchanged(icl_eval: IclEval, lm: FakeLM, tmp_path: Path) -> None:
    texts = {
        "tasks/capitals.yaml": "task: capitals\nabout: Which capital?\ndata: {local: {test: a.jsonl}}\n"
        "splits: {demonstrations: test, evaluation: test}\nfields: {country: country}\n"
        "gold: {field: label}\noptions: [东京, طوكيو]\n"
        "prompts: [plain]\nmetrics: [accuracy]\n",
        "prompts/capitals/plain.jinja": "{% block query %}\nعاصمة {{ country }} هي\n{% endblock %}\n",
        "data/a.jsonl": '{"country": "日本", "label": 0}\n',
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    result = icl_eval(
        "show", "capitals", "--shots", "0", "--include", str(tmp_path), "--data-dir", str(tmp_path / "data")
    )

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("عاصمة 日本 هي⟦ 东京⟧\n")


def test_show_notes_a_second_space_before_options(icl_eval: IclEval, lm: FakeLM) -> None:
    path = Path("tasks/toy/parity.yaml")
    path.write_text(path.read_text().replace("options: [even, odd]", "options: [' even', ' odd']"))
    result = icl_eval("show", "toy/parity", "--shots", "0", *TOY)

    assert result.out.splitlines()[-1].startswith(
        "note: the option ' even' begins with a space and the answer block adds"
    )
