from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from models import kinds
from transformers import AutoTokenizer

from icl_eval.models import ControlTokens, LoadConfig, ModelConfig, load_model, load_text_reader
from icl_eval.runs.cells import MAX_CATEGORIES
from icl_eval.runs.tasks import SAMPLE_PATH
from icl_eval.tasks import Library
from icl_eval.testing import FakeLM
from icl_eval.tiny import MODEL

from .shell import TOY, IclEval

NOTE = "records contain <|endoftext|>, which this model reads as a control token, not as text"

PARITY = Path("tasks/toy/parity.yaml")
TEMPLATE = Path("prompts/toy/parity/chatty.jinja")


def test_check_prints_a_summary_of_each_task_and_suite(icl_eval: IclEval) -> None:
    result = icl_eval("check", "toy", "toy/parity", "tasks/toy/pairs.yaml", *TOY)

    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "ok toy/parity: 8 examples, 12 candidate demonstrations, prompts plain, chatty\n"
        "ok toy/pairs: 8 examples, 12 candidate demonstrations, prompts plain, chatty\n"
        "ok toy: suite of 2 tasks\n"
    )


def test_check_of_a_suite_finds_an_error_in_one_record_with_assertions_disabled(library: Path) -> None:
    TEMPLATE.write_text("{% block query %}{{ n }}:{{ ' ' if n == 7 }}{% endblock %}")
    command = [sys.executable, "-O", "-m", "icl_eval", "check", "toy", *TOY]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.returncode == 2
    assert result.stdout == "ok toy/pairs: 8 examples, 12 candidate demonstrations, prompts plain, chatty\n"
    assert result.stderr.splitlines() == [
        f"icl-eval: {PARITY.resolve()}: toy/parity, prompt 'chatty', example '7': "
        "the context ends in whitespace, which belongs to the answer",
        "icl-eval: toy: 1 of its tasks cannot be run: toy/parity",
    ]


def test_check_of_a_suite_names_every_missing_file(icl_eval: IclEval) -> None:
    for name in ("parity/val", "parity/train", "pairs/train"):
        Path(f"data/{name}.jsonl").unlink()
    result = icl_eval("check", "toy", *TOY)

    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "icl-eval: toy/parity: data: there is no file parity/val.jsonl or val.jsonl for the split 'validation'; "
        "there is no file parity/train.jsonl or train.jsonl for the split 'train'",
        "icl-eval: toy/pairs: data: there is no file pairs/train.jsonl or train.jsonl for the split 'train'; "
        "--split and --fewshot-split take another split, and there is validation",
        "icl-eval: toy: 2 of its tasks cannot be run: toy/pairs, toy/parity",
    ]


def test_check_rejects_a_suite_that_averages_different_scales(icl_eval: IclEval) -> None:
    Path("tasks/toy.yaml").write_text("suite: toy\nabout: Two.\ntasks: [toy/parity, wikitext-2]\n")
    result = icl_eval("check", "toy", "--include", ".")

    assert result.code == 2
    assert "ok toy:" not in result.out


def test_check_rejects_a_second_space_before_options(icl_eval: IclEval) -> None:
    PARITY.write_text(PARITY.read_text().replace("options: [even, odd]", "options: [' even', ' odd']"))
    message = icl_eval("check", "toy/parity", *TOY).mistake

    location = "toy/parity, prompt 'plain', example '0': "
    assert f"{location}the option ' even' begins with a space and the answer block adds another, so '  even'" in message


def test_check_accepts_options_with_a_space_if_the_answer_block_adds_none(icl_eval: IclEval) -> None:
    PARITY.write_text(PARITY.read_text().replace("options: [even, odd]", "options: [' even', ' odd']"))
    for path in Path("prompts/toy/parity").iterdir():
        path.write_text("{% block query %}{{ n }}:{% endblock %}{% block answer %}{{ option }}{% endblock %}")

    assert icl_eval("check", "toy/parity", *TOY).code == 0


def test_check_accepts_a_task_with_few_candidate_demonstrations(icl_eval: IclEval) -> None:
    path = Path("data/parity/train.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))

    found = icl_eval("check", "toy/parity", *TOY).out

    assert found.startswith("ok toy/parity: 8 examples, 1 candidate demonstration, prompts")
    assert found.endswith("; note: it has 2 shots by default, but candidates for 1\n")


def test_check_notes_options_that_differ_only_in_white_space(icl_eval: IclEval) -> None:
    PARITY.write_text(PARITY.read_text().replace("options: [even, odd]", 'options: ["odd", "odd "]'))

    assert "; 8 list options that differ only in white space, such as " in icl_eval("check", "toy/parity", *TOY).out


INVALID = {
    "yaml": (PARITY, "options: [", "options: [[", 10, "the YAML does not parse"),
    "key": (PARITY, "prompts: [", "prompt: [", 10, "no key is named 'prompt'; did you mean prompts?"),
    "missing key": (
        PARITY,
        "splits: {demonstrations: train, evaluation: validation}\n",
        "",
        None,
        "`splits` is missing",
    ),
    "metric": (PARITY, "[accuracy]", "[accurate]", 12, "no metric is named 'accurate'; did you mean accuracy?"),
    "short metric": (PARITY, "[accuracy]", "[acc]", 12, "no metric is named 'acc'; choose from accuracy, macro_f1,"),
    "metric of texts": (PARITY, "[accuracy]", "[squad_em]", 12, "squad_em measures texts, but these answers are"),
    "reference": (PARITY, "metrics:", "reference: gpt3:RT\nmetrics:", 12, "named 'gpt3:RT'; did you mean gpt3:RTE"),
    "prompt": (PARITY, "chatty]", "chaty]", 10, "no prompt of toy/parity is named 'chaty'; did you mean chatty?"),
    "number": (PARITY, "shots: 2", "shots: two", 11, "`protocol.shots`: "),
    "names": (PARITY, "names: [even, odd]", "names: [even]", 8, "`gold.names` has 1 name for 2 options"),
    "field": (TEMPLATE, "{{ n }}", "{{ number }}", 2, "no field of the example is named 'number'; choose from n"),
    "template": (TEMPLATE, "{{ n }}", "{{ n", 3, "the template does not parse"),
    "block": (TEMPLATE, "block query", "block qery", 2, "no prompt block is named 'qery'; did you mean query?"),
    "expression": (TEMPLATE, "{{ n }}", "{{ n.digits[3].x }}", 2, "block `query` cannot be rendered: "),
}


@pytest.mark.parametrize(("path", "old", "new", "line", "message_part"), INVALID.values(), ids=INVALID)
def test_check_reports_file_line_and_the_nearest_valid_name(
    path: Path, old: str, new: str, line: int | None, message_part: str, icl_eval: IclEval
) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    message = icl_eval("check", "toy/parity", *TOY).mistake

    location = f"{path.resolve()}:" if line is None else f"{path.resolve()}:{line}: "
    assert message.startswith(location)
    assert message_part in message


@pytest.mark.parametrize(
    ("split", "old", "new", "message_part"),
    [
        ("val", '"label": 1}', '"label": 2}', "val.jsonl:2: the label 2 is out of range for 2 options"),
        ("train", '"n": 101, "pair": 50, "label": 1', '"n": 101, "pair": 50, "label": "od"', "did you mean odd?"),
        ("train", '"n": 101', '"m": 101', "train.jsonl:2: no field of the record is named 'n'"),
        ("val", '"n": 3', '"n": 4', "val.jsonl:5: the id '4' is also that of line 4"),
    ],
)
def test_check_reads_every_record_of_both_splits(
    split: str, old: str, new: str, message_part: str, icl_eval: IclEval
) -> None:
    path = Path(f"data/parity/{split}.jsonl")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

    assert message_part in icl_eval("check", "toy/parity", *TOY).mistake


def test_check_rejects_an_answer_that_is_empty_for_a_single_record(icl_eval: IclEval) -> None:
    answer = "{% block answer %}{{ '' if n == 5 else ' ' + option }}{% endblock %}"
    TEMPLATE.write_text("{% block query %}Q: {{ n }}\nA:{% endblock %}" + answer)
    message = icl_eval("check", "toy/parity", *TOY).mistake

    assert message.startswith(f"{TEMPLATE.resolve()}: ")
    assert "the answer for option 'even' is empty" in message


def test_check_rejects_options_with_the_same_text(icl_eval: IclEval) -> None:
    TEMPLATE.write_text("{% block query %}{{ n }}:{% endblock %}{% block answer %} yes{% endblock %}")
    message = icl_eval("check", "toy/parity", *TOY).mistake

    assert message.startswith(f"{PARITY.resolve()}: toy/parity, prompt 'chatty', example '0': ")
    assert message.endswith("the options 'even' and 'odd' have the same text in the prompt")


def test_check_continues_after_an_invalid_task(icl_eval: IclEval) -> None:
    Path("tasks/toy/pairs.yaml").write_text("task: toy/pairs\n")
    result = icl_eval("check", "toy/pairs", "toy/parity", *TOY)

    assert result.code == 2
    assert result.out.startswith("ok toy/parity: ")
    assert result.err.count("\n") == 1


def test_check_without_names_checks_every_task_and_suite(icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch) -> None:
    checked_names: list[str] = []

    def inspected(_: object, name: str, *__: object, **___: object) -> str:
        checked_names.append(name)
        return "fine"

    monkeypatch.setattr("icl_eval.runs.check.inspect", inspected)
    icl_eval("check", "--include", ".")

    assert sorted(checked_names) == Library([Path()]).names()
    assert checked_names.index("toy") > max(map(checked_names.index, ("toy/parity", "toy/pairs")))
    assert SAMPLE_PATH.is_dir()


def test_check_without_names_lists_tasks_without_data(icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_eval.tasks.library.bundled", Path)  # only the toys, which are here
    Path("data/parity/val.jsonl").unlink()
    result = icl_eval("check", "--include", ".", "--data-dir", "data")

    assert (result.code, result.err) == (0, "")
    assert "no data for toy/parity: there is no file parity/val.jsonl or val.jsonl" in result.out
    assert "ok toy/pairs: 8 examples" in result.out
    assert "no data for toy: its task toy/parity has none" in result.out


def test_check_of_a_task_without_its_data_fails(icl_eval: IclEval) -> None:
    Path("data/parity/val.jsonl").unlink()

    assert icl_eval("check", "toy/parity", *TOY).mistake.startswith("data: there is no file parity/val.jsonl")


def test_check_reads_the_given_splits(icl_eval: IclEval) -> None:
    Path("data/parity/val.jsonl").unlink()
    result = icl_eval("check", "toy/parity", "--split", "train", "--fewshot-split", "train", *TOY)

    assert result.out == "ok toy/parity: 12 examples, 12 candidate demonstrations, prompts plain, chatty\n"


def test_check_counts_categories_and_rejects_too_many(icl_eval: IclEval) -> None:
    PARITY.write_text(PARITY.read_text() + "by: pair\n")
    assert "prompts plain, chatty; 4 categories\n" in icl_eval("check", "toy/parity", *TOY).out

    rows = ({"n": n, "label": n % 2, "pair": n} for n in range(MAX_CATEGORIES + 1))
    Path("data/parity/val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "`by` is 'pair', which has 1001 values; at most 1000" in icl_eval("check", "toy/parity", *TOY).mistake


def test_check_accepts_demonstrations_from_the_evaluated_split(icl_eval: IclEval) -> None:
    result = icl_eval("check", "toy/pairs", "--split", "train", "--fewshot-split", "train", *TOY)

    assert result.out.startswith("ok toy/pairs: 12 examples")


def test_check_suggests_the_nearest_split(icl_eval: IclEval) -> None:
    for option in ("--split", "--fewshot-split"):
        message = icl_eval("check", "toy/parity", option, "trian", *TOY).mistake

        assert message.endswith("no split of toy/parity is named 'trian'; did you mean train?")


@pytest.mark.slow
def test_check_accepts_every_bundled_task(icl_eval: IclEval) -> None:
    result = icl_eval("check")

    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) >= 13


def test_check_of_generated_records_needs_no_data(icl_eval: IclEval) -> None:
    result = icl_eval("check", "arithmetic/1d-composite", "unscramble/random-insertion")

    assert result.out == (
        "ok arithmetic/1d-composite: 2000 examples, 2000 candidate demonstrations, prompts gpt3, question\n"
        "ok unscramble/random-insertion: 2000 examples, 2000 candidate demonstrations, prompts gpt3\n"
    )


def test_check_with_a_model_lists_the_queries_that_do_not_fit(icl_eval: IclEval) -> None:
    lines = [json.dumps({"n": n, "pair": 0, "label": 0}) for n in ("2", "22" * 40, "4", "44" * 30)]
    Path("data/parity/val.jsonl").write_text("\n".join(lines))
    whole = icl_eval("check", "toy", *TOY, "--model", "tiny")
    result = icl_eval("check", "toy", *TOY, "--model", "tiny", "--max-length", "40")

    assert (whole.code, result.code) == (0, 2)
    long = "2 of 4 queries do not fit the model ('" + "22" * 40 + "', '" + "44" * 30 + "'); the first is"
    messages = result.err.splitlines()
    assert messages[0].startswith(f"icl-eval: toy/parity, prompt 'plain': {long} ")
    assert "the query alone takes" in messages[0]
    assert messages[1] == "icl-eval: toy: 1 of its tasks cannot be run: toy/parity"
    assert result.out == "ok toy/pairs: 8 examples, 12 candidate demonstrations, prompts plain, chatty\n"


def test_check_run_and_show_report_control_tokens_in_records(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm.controls = ControlTokens(AutoTokenizer.from_pretrained(MODEL), takes_ids=False)
    monkeypatch.setattr("icl_eval.models.loading.load.load_text_reader", lambda *_, **__: lm)
    evaluated, drawn = Path("data/parity/val.jsonl"), Path("data/parity/train.jsonl")
    clean = icl_eval("check", "toy/parity", *TOY, "--model", "any")
    for path, n in ((evaluated, "2<|endoftext|>"), (drawn, "<|endoftext|>4")):
        old = path.read_text()
        path.write_text(old + json.dumps({"n": n, "pair": 0, "label": 0}) + "\n")
        checked = icl_eval("check", "toy/parity", *TOY, "--model", "any")
        ran = icl_eval("run", "-t", "toy/parity", "--shots", "12", "--model", "any", *TOY)
        assert (
            checked.out
            == clean.out.replace(
                "8 examples, 12", f"{8 + (path == evaluated)} examples, {12 + (path == drawn)}"
            ).rstrip()
            + f"; note: {NOTE}\n"
        )
        assert ran.out.splitlines()[1] == f"note: {NOTE}"
        path.write_text(old)
    drawn.write_text(drawn.read_text().replace('"n": 100,', '"n": "<|endoftext|>",'))
    assert f"\nnote: {NOTE}\n" in icl_eval("show", "toy/parity", "--shots", "12", *TOY).out
    assert "note" not in icl_eval("show", "toy/parity", "--shots", "0", *TOY).out


@pytest.mark.parametrize("name", ["flan", "bart", "bert", "roberta"])
def test_check_encodes_like_a_loaded_model_of_each_kind(name: str, icl_eval: IclEval) -> None:
    kinds.build(name).save_pretrained(name)
    kinds.tokenizer_for(name).save_pretrained(name)
    lm, reader = load_model(name, device="cpu"), load_text_reader(name, ModelConfig(), LoadConfig())
    texts = [" even", "Q: 7\nA:", "the blue sky"]

    for each in ("kind", "window", "start", "fallback"):
        assert getattr(reader, each) == getattr(lm, each)
    assert reader.encode(texts) == lm.encode(texts)
    assert icl_eval("check", "toy/parity", *TOY, "--model", name).code == 0
    assert (
        "queries do not fit the model" in icl_eval("check", "toy/parity", *TOY, "-m", name, "--max-length", "5").mistake
    )
