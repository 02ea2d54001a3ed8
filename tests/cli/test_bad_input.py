from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_tasks import PARITY_YAML, write

from icl_eval import __version__
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

PARITY = Path("tasks/toy/parity.yaml")
TEMPLATE = Path("prompts/toy/parity/plain.jinja")


@pytest.fixture(autouse=True)
def _fake(lm: FakeLM) -> None:
    """No real model is loaded by a mistake that is not noticed."""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_invalid_yaml(icl_eval: IclEval) -> None:
    edit(PARITY, "splits: {", "splits: {{")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith(f"{PARITY.resolve()}:6: the YAML does not parse: ")


@pytest.mark.parametrize("text", ["about: \x00\n", "about: é\x07\n"])
def test_yaml_with_forbidden_characters(text: str, icl_eval: IclEval) -> None:
    PARITY.write_text(text)
    for command in (("run", "--task"), ("check",), ("show",)):
        assert icl_eval(*command, "toy/parity", *TOY).mistake.startswith(f"{PARITY.resolve()}: cannot be read: ")


def test_yaml_that_is_not_utf_8(icl_eval: IclEval) -> None:
    PARITY.write_bytes(b"about: \xe9\n")

    assert icl_eval("run", "--task", "toy/parity", *TOY).mistake.startswith(f"{PARITY.resolve()}: cannot be read: ")


def test_unknown_key(icl_eval: IclEval) -> None:
    edit(PARITY, "metrics:", "metric:")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == f"{PARITY.resolve()}:12: no key is named 'metric'; did you mean metrics or extract?"


def test_repeated_key(icl_eval: IclEval) -> None:
    edit(PARITY, "id: n\n", "id: n\nid: n\n")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == f"{PARITY.resolve()}:7: the key `id` appears here and in line 6"


def test_unknown_task(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/party", *TOY).mistake

    assert message == "no task or suite is named 'toy/party'; did you mean toy/parity or toy/pairs?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RTE", "superglue/rte"),
        ("copa", "superglue/copa"),
        ("wmt16/ro-en", "wmt16-ro-en"),
        ("translation/wmt14-fr-xx", "translation/wmt14-fr-en"),
    ],
)
def test_unknown_task_suggests_tasks_with_this_last_part(name: str, meant: str, icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", name, *TOY).mistake

    assert message.startswith(f"no task or suite is named {name!r}; did you mean ")
    assert meant in message


def test_unknown_task_without_a_similar_name(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "qqqq", *TOY).mistake

    assert message == (
        "no task or suite is named 'qqqq'; `icl-eval list` lists all names, and --include (in Python `library`) adds a "
        "folder of your own"
    )


def test_unknown_suite_member(icl_eval: IclEval) -> None:
    edit(Path("tasks/toy.yaml"), "toy/pairs", "toy/pair")
    message = icl_eval("run", "--task", "toy", *TOY).mistake

    assert (
        message
        == f"{Path('tasks/toy.yaml').resolve()}:3: no task is named 'toy/pair'; did you mean toy/pairs or toy/parity?"
    )


def test_template_with_a_misspelt_field(icl_eval: IclEval) -> None:
    TEMPLATE.write_text("Q:\n{{ m }}\nA:")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == f"{TEMPLATE.resolve()}:2: no field of the example is named 'm'; choose from n"


def test_empty_template(icl_eval: IclEval, lm: FakeLM) -> None:
    TEMPLATE.write_text("\n")

    assert icl_eval("run", "--task", "toy/parity", *TOY).mistake.startswith(f"{TEMPLATE.resolve()}: the file is empty")
    assert lm.answered == 0


def test_invalid_template(icl_eval: IclEval) -> None:
    TEMPLATE.write_text("Q:\n{{ n }\nA:")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith(f"{TEMPLATE.resolve()}:2: the template does not parse: ")


def test_missing_split_file(icl_eval: IclEval) -> None:
    Path("data/parity/val.jsonl").unlink()
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == (
        "data: there is no file parity/val.jsonl or val.jsonl for the split 'validation'; "
        "--split and --fewshot-split take another split, and there is train"
    )


def test_missing_split(icl_eval: IclEval) -> None:
    edit(PARITY, "validation: parity/val.jsonl", "test: parity/val.jsonl")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == "data: no local split is named 'validation'; choose from test, train"


def test_empty_split(icl_eval: IclEval) -> None:
    Path("data/parity/val.jsonl").write_text("")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == "data/parity/val.jsonl: toy/parity: split 'validation' is empty"


def test_missing_data_directory(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", "--include", ".", "--data-dir", "dat").mistake

    assert message == "dat: this data directory does not exist"


def test_split_with_only_line_breaks(icl_eval: IclEval) -> None:
    Path("data/parity/train.jsonl").write_text("\n \n")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == "data/parity/train.jsonl: toy/parity: split 'train' is empty"


def test_file_that_is_not_utf_8(icl_eval: IclEval) -> None:
    path = Path("data/parity/val.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"n": 3', b'"n": "\xe9"'))
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == "data/parity/val.jsonl:4: not UTF-8: byte 0xe9 (invalid continuation byte)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"n": 3', '"n": NaN', "'n' must be a text or a number to name the record or its group, but it is nan"),
        ('"n": 3', '"n": null', "'n' must be a text or a number to name the record or its group, but it is None"),
        ('"n": 3', '"m": 3', "no field of the record is named 'n'; choose from label, m, pair"),
        ('"n": 3', '"n": 2', "the id '2' is also that of line 3"),
        ('1, "label": 1', "1", "no field of the record is named 'label'; choose from n, pair"),
        ('1, "label": 1', '1, "label": NaN', "the record has no label; the labels of this split may not be public"),
        ('1, "label": 1', '1, "label": null', "the record has no label; the labels of this split may not be public"),
        ('1, "label": 1', '1, "label": "od"', "no label is named 'od'; did you mean odd?"),
        ('1, "label": 1', '1, "label": []', "no option is marked as right"),
    ],
)
def test_invalid_record_is_reported_with_its_line(
    old: str, new: str, message: str, icl_eval: IclEval, lm: FakeLM
) -> None:
    path = Path("data/parity/val.jsonl")
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace(old, new)
    path.write_text("\n".join(lines))
    printed = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert printed == f"data/parity/val.jsonl:4: {message} (toy/parity: split 'validation')"
    assert lm.answered == 0


def test_label_out_of_range(icl_eval: IclEval) -> None:
    edit(Path("data/parity/val.jsonl"), '"n": 3, "pair": 1, "label": 1', '"n": 3, "pair": 1, "label": 7')
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == (
        "data/parity/val.jsonl:4: the label 7 is out of range for 2 options (toy/parity: split 'validation')"
    )


def test_record_that_is_not_json(icl_eval: IclEval) -> None:
    edit(Path("data/parity/val.jsonl"), '{"n": 3,', '{"n": 3;')
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith("data/parity/val.jsonl:4: not valid JSON: ")


@pytest.mark.parametrize("options", ["[]", '[""]', "[even]", "choices"])
def test_no_options(options: str, icl_eval: IclEval) -> None:
    edit(PARITY, "gold: {field: label, names: [even, odd]}", "gold: {field: label}")
    edit(PARITY, "fields: {n: n}", "fields: {n: n, choices: choices}")
    edit(PARITY, "options: [even, odd]", f"options: {options}")
    edit(Path("data/parity/val.jsonl"), '"label"', '"choices": [], "label"')
    message = icl_eval("run", "--task", "toy/parity", "--shots", "0", *TOY).mistake

    assert "option" in message


def test_task_name_defined_twice(icl_eval: IclEval, tmp_path: Path) -> None:
    other = write(tmp_path, "other/tasks/toy/parity.yaml", PARITY_YAML)
    message = icl_eval("run", "--task", "toy/parity", "--include", "other", *TOY).mistake

    assert message == f"{other}: the name 'toy/parity' is also defined by {PARITY.resolve()}; rename one of the two"


def test_task_named_differently_than_its_file(icl_eval: IclEval) -> None:
    edit(PARITY, "task: toy/parity", "task: toy/oddity")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith(f"{PARITY.resolve()}:1: the file has `task: toy/oddity`, but its path below `tasks` is")


def test_more_shots_than_the_training_split_has(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", "--shots", "0,13", *TOY).mistake

    assert message == "toy/parity: 13 demonstrations were requested, but there are 12 to draw from"


def test_query_longer_than_the_window(icl_eval: IclEval, lm: FakeLM) -> None:
    lm.window = 10
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == (
        "toy/parity, example '0': the query alone takes 11 tokens, but the context length is 10; "
        "--overflow truncate cuts its start"
    )


def test_long_id_is_shortened_in_the_message(icl_eval: IclEval, lm: FakeLM) -> None:
    edit(Path("data/parity/val.jsonl"), '"n": 3,', f'"n": "{"word " * 900}",')
    lm.window = 100
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith("toy/parity, example 'word word ")
    assert "...': the query alone takes 4510 tokens, but the context length is 100" in message  # 3 + 4500 + 3 + 5 - 1
    assert len(message) < 200


def test_unknown_metric(icl_eval: IclEval, lm: FakeLM) -> None:
    edit(PARITY, "[accuracy]", "[acuracy]")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message == f"{PARITY.resolve()}:12: no metric is named 'acuracy'; did you mean accuracy or greedy_accuracy?"
    assert lm.answered == 0


def test_unknown_reference(icl_eval: IclEval, lm: FakeLM) -> None:
    PARITY.write_text(PARITY.read_text() + "reference: gpt3:RTEE\n")
    message = icl_eval("run", "--task", "toy/parity", *TOY).mistake

    assert message.startswith(f"{PARITY.resolve()}:13: no reference is named 'gpt3:RTEE'; did you mean gpt3:RTE")
    assert lm.answered == 0


def test_unknown_prompt(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", "--prompt", "chaty", *TOY).mistake

    assert message == "no prompt of toy/parity is named 'chaty'; did you mean chatty?"


def test_unknown_normalisation(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", "--normalization", "token,chars", *TOY).mistake

    assert message == "no normalisation or calibration is named 'chars'; did you mean char?"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "xml"), ("'--format'", "'xml'", "json")),
        (("--overflow", "cut"), ("'--overflow'", "'cut'", "truncate")),
        (("--dtype", "int8"), ("'--dtype'", "'int8'", "float16")),
        (("--bos", "perhaps"), ("'--bos'", "'perhaps'", "auto")),
        (("--max-length", "wide"), ("'--max-length'", "integer")),
        (("--limit",), ("--limit", "requires an argument")),
        (("--shotz", "1"), ("--shotz", "--shots")),
    ],
)
def test_unknown_argument(arguments: tuple[str, ...], words: tuple[str, ...], icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", *TOY, *arguments).mistake

    assert all(word in message for word in words), message
    assert message.endswith("; see `icl-eval run --help`")


def test_a_surplus_argument(icl_eval: IclEval) -> None:
    message = icl_eval("regress", "a", "surplus").mistake

    assert "surplus" in message
    assert message.endswith("; see `icl-eval regress --help`")


def test_missing_task(icl_eval: IclEval) -> None:
    for command in ("run", "plan", "show", "orders"):
        assert icl_eval(command).mistake == "no task is given; `icl-eval list` lists tasks and suites"


@pytest.mark.parametrize("command", ["show", "orders"])
def test_several_tasks_for_a_command_of_one_task(command: str, icl_eval: IclEval) -> None:
    message = icl_eval(command, "toy/parity,toy/pairs", *TOY).mistake

    assert message == f"{command} takes one task, but several are given: toy/parity, toy/pairs"
    assert "toy" in icl_eval(command, "toy", *TOY).mistake


def test_unknown_command(icl_eval: IclEval) -> None:
    assert "'runn'" in icl_eval("runn").mistake


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--shots", "a"), "--shots takes whole numbers separated by commas, such as 0,1,4, not 'a'"),
        (("--shots", ""), "--shots takes whole numbers separated by commas, such as 0,1,4, not ''"),
        (("--shots", "0,-1"), "--shots takes whole numbers separated by commas, such as 0,1,4, not '0,-1'"),
        (("--seeds", "1.5"), "--seeds takes whole numbers separated by commas, such as 0,1,4, not '1.5'"),
        (("--seeds", "0"), "`seeds`: give a positive number of seeds, or a list without repetitions"),
        (("--seeds", "3,3"), "`seeds`: give a positive number of seeds, or a list without repetitions"),
        (
            ("--limit", "-1"),
            "`limit`: '-1' is neither a number of examples, at least 1, nor first:N, nor olmes",
        ),
        (
            ("--limit", "few"),
            "`limit`: 'few' is neither a number of examples, at least 1, nor first:N, nor olmes",
        ),
        (("--max-length", "1"), "`max_length`: Input should be greater than or equal to 2"),
        (("--retries", "-1"), "`retries`: Input should be greater than or equal to 0"),
        (("--data", "sample"), "give either --data or --data-dir, not both"),
        (("--include", "prompts"), f"{Path('prompts')}: there is no folder `tasks` here"),
    ],
)
def test_invalid_value(arguments: tuple[str, ...], sentence: str, icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", *TOY, *arguments).mistake

    assert message.removeprefix(f"{Path.cwd()}/") == sentence


def test_data_that_is_neither_hub_nor_sample(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", "--include", ".", "--data", "data").mistake

    assert message == "--data takes `hub` or `sample`, not 'data'; use --data-dir for a directory"


def test_run_folder_that_is_a_file(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", *TOY, "--out", PARITY).mistake

    assert message == f"{PARITY}: this is a file, but a run needs a folder; give another --out"


def test_run_folder_of_another_version(icl_eval: IclEval) -> None:
    command = ("run", "--task", "toy/parity", *TOY, "--out", "kept")
    icl_eval(*command)
    manifest = json.loads(Path("kept/manifest.json").read_text())
    manifest["versions"]["icl-eval"] = "99.0"
    Path("kept/manifest.json").write_text(json.dumps(manifest | {"colour": "blue"}))
    damaged = "kept/manifest.json: the manifest is damaged: `colour`: Extra inputs are not permitted"
    other = f"{damaged}; icl-eval 99.0 wrote it, not this version"

    assert [icl_eval(*command).mistake, icl_eval("rescore", "kept").mistake] == [other, other]
    manifest["versions"]["icl-eval"] = __version__
    Path("kept/manifest.json").write_text(json.dumps(manifest | {"colour": "blue"}))
    assert icl_eval("rescore", "kept").mistake == damaged


def test_run_folder_with_a_truncated_manifest(icl_eval: IclEval) -> None:
    command = ("run", "--task", "toy/parity", *TOY, "--out", "kept")
    icl_eval(*command)
    manifest = Path("kept/manifest.json")
    manifest.write_text(manifest.read_text()[:100])

    assert icl_eval(*command).mistake.startswith("kept/manifest.json: the manifest is damaged: Invalid JSON: EOF")


def test_run_folder_with_a_truncated_journal_is_completed(icl_eval: IclEval) -> None:
    command = ("run", "--task", "toy/parity", *TOY, "--out", "kept")
    whole = icl_eval(*command).out
    for name, last in (("answers.jsonl", 20), ("examples.jsonl", 300)):
        path = Path("kept") / name
        path.write_bytes(path.read_bytes()[:-last])

    assert icl_eval("rescore", "kept").mistake.startswith("kept/examples.jsonl:")
    assert icl_eval(*command).out == whole


@pytest.mark.parametrize("command", [("rescore",), ("regress", "new.json", "--update")])
def test_folder_that_is_not_a_run_folder(command: tuple[str, ...], icl_eval: IclEval) -> None:
    assert icl_eval(*command, "gone").mistake == "gone: this is not a run folder: it does not exist"
    assert icl_eval(*command, "data").mistake.startswith("data: this is not a run folder: manifest.json cannot be read")


def test_run_folder_below_a_file(icl_eval: IclEval) -> None:
    message = icl_eval("run", "--task", "toy/parity", *TOY, "--out", PARITY / "run").mistake

    assert message == f"{PARITY / 'run'}: this run folder cannot be written: Not a directory"


def test_missing_task_file(icl_eval: IclEval) -> None:
    assert icl_eval("run", "--task", "tasks/no.yaml", *TOY).mistake == "tasks/no.yaml: this task file does not exist"


def test_task_file_outside_a_tasks_folder(icl_eval: IclEval, tmp_path: Path) -> None:
    write(tmp_path, "loose.yaml", PARITY_YAML)
    message = icl_eval("run", "--task", "loose.yaml", *TOY).mistake

    assert message.startswith("loose.yaml: a task file must be in a folder named `tasks`")


@pytest.mark.parametrize("command", ["show", "check", "rescore", "regress"])
def test_missing_task_is_one_sentence_in_every_command(command: str, icl_eval: IclEval) -> None:
    assert "no/such" in icl_eval(command, "no/such").mistake


def test_list_without_a_match(icl_eval: IclEval) -> None:
    assert icl_eval("list", "nosuch").mistake == "no task or suite has 'nosuch' in its name"


def test_show_unknown_example(icl_eval: IclEval) -> None:
    message = icl_eval("show", "toy/parity", *TOY, "--example", "99").mistake

    assert message == "no example of toy/parity is named '99'; choose from 0, 1, 2, 3, 4, 5, 6, 7"


def test_show_suite(icl_eval: IclEval) -> None:
    assert icl_eval("show", "toy", *TOY).mistake.endswith("tasks/toy.yaml:1: 'toy' is a suite, not a task")
