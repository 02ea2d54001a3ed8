"""YAML files in the form of lm-evaluation-harness, written here, as tasks of this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from icl_eval import Library, Task, evaluate
from icl_eval.errors import IclEvalError, RunError, TaskError
from icl_eval.importing import lm_eval_package as package
from icl_eval.importing.folder import Imported
from icl_eval.importing.lm_eval import LmEvalImport
from icl_eval.prompts import assemble
from icl_eval.tasks import LocalSource, Source
from icl_eval.testing import FakeLM

CHOICE = """\
task: birds
dataset_path: zoo/birds
dataset_name: en
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(key)}}"
doc_to_choice: "{{choices.text}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
RECORDS = [
    {"question": "Which sings?", "choices": {"text": ["wren", "stone"], "label": ["A", "B"]}, "key": "A"},
    {"question": "Which swims?", "choices": {"text": ["sand", "duck"], "label": ["A", "B"]}, "key": "B"},
]
SUMS = """\
task: sums
dataset_path: zoo/sums
output_type: generate_until
training_split: train
test_split: test
doc_to_text: "Q: {{q}}"
doc_to_target: "{{a}}"
target_delimiter: "\\nA: "
num_fewshot: 2
fewshot_config: {sampler: first_n}
generation_kwargs: {until: ["Q:", ""], max_gen_toks: 40, do_sample: false, temperature: 0.0}
metric_list:
  - metric: exact_match
    ignore_case: true
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### "]
filter_list:
  - name: Strict-Match
    filter: [{function: regex, regex_pattern: "#### ([0-9]+)"}, {function: take_first}]
  - name: flexible
    filter: [{function: regex, regex_pattern: "[0-9]+", group_select: -1}, {function: take_first}]
"""


def imported(
    tmp_path: Path,
    text: str,
    trust: bool = False,
    source: Source | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> list[Imported]:
    """What becomes of a YAML beside other files, in the folder `out`."""
    folder = tmp_path / "yaml"
    folder.mkdir(exist_ok=True)
    for name, content in {"task.yaml": text, **files}.items():
        (folder / name).write_text(content)
    return LmEvalImport(tmp_path / "out", source, trust).file(folder / "task.yaml")


def put(tmp_path: Path, task: str, **splits: list[dict[str, Any]]) -> LocalSource:
    """A directory with the records of a task in the layout of the Hub."""
    for split, rows in splits.items():
        path = tmp_path / f"data/lm-eval/{task}/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LocalSource(tmp_path / "data")


def task_of(tmp_path: Path, name: str) -> Task:
    return Library([tmp_path / "out"]).task(f"lm-eval/{name}")


def prompts(task: Task, source: Source, shots: int = 0) -> list[list[str]]:
    """Context and answer of every option of every example."""
    prompt = task.prompt()
    pool = task.demonstrations(source)[:shots] if shots else []
    demonstrations = [prompt.demonstration(each.fields, each.options, each.gold[0]) for each in pool]
    found = []
    for each in task.evaluation(source):
        text = assemble(prompt, each.fields, each.options, demonstrations)
        found.append([text.context(index) + answer for index, answer in enumerate(text.answers)])
    return found


def test_a_multiple_choice_task_keeps_its_prompt_options_gold_and_metrics(tmp_path: Path) -> None:
    source = put(tmp_path, "birds", test=RECORDS, train=RECORDS[::-1])
    (report,) = imported(tmp_path, CHOICE)
    task = task_of(tmp_path, "birds")

    assert (report.name, report.how) == ("lm-eval/birds", "whole")
    assert prompts(task, source, shots=1)[0] == [
        "Question: Which swims?\nAnswer: duck\n\nQuestion: Which sings?\nAnswer: wren",
        "Question: Which swims?\nAnswer: duck\n\nQuestion: Which sings?\nAnswer: stone",
    ]
    assert [each.gold for each in task.evaluation(source)] == [(0,), (1,)]
    assert task.definition.data.hub is not None
    assert (task.definition.data.hub.path, task.definition.data.hub.name) == ("zoo/birds", "en")
    assert (task.definition.metrics, task.definition.score.normalization) == (["accuracy"], "sum")
    assert report.notes.changed == [
        "acc is accuracy with `--normalization sum`",
        "acc_norm is accuracy with `--normalization char`",
    ]


def test_a_generative_task_keeps_its_decoding_filters_and_full_demonstrations(tmp_path: Path) -> None:
    train = [{"q": "1 + 1?", "a": "one and one #### 2"}, {"q": "2 + 2?", "a": "two and two #### 4"}]
    test = [{"q": "3 + 3?", "a": "three and three #### 6"}, {"q": "4 + 4?", "a": "four and four #### 1,008"}]
    put(tmp_path, "sums", train=train, test=test)
    imported(tmp_path, SUMS)
    task = task_of(tmp_path, "sums")
    start = "Q: 1 + 1?\nA: one and one #### 2\n\nQ: 2 + 2?\nA: two and two #### 4\n\n"
    model = FakeLM({f"{start}Q: 3 + 3?": " a #### 6 or 7Q:", f"{start}Q: 4 + 4?": " b #### 7, so 1008Q:"})
    result = evaluate(model, "lm-eval/sums", data=tmp_path / "data", library=Library([tmp_path / "out"]))

    assert {line.metric: line.value for line in result.scores} == {
        "number_match@strict-match": 0.5,
        "number_match@flexible": 0.5,
    }
    assert task.definition.decode is not None
    assert (task.definition.decode.max_tokens, task.definition.decode.stop) == (40, ["Q:"])
    assert (task.definition.protocol.shots, task.definition.protocol.draw) == (2, "first")


def test_files_are_included_in_a_chain(tmp_path: Path) -> None:
    base = {"_base_yaml": CHOICE.replace("task: birds\n", ""), "_middle_yaml": "include: _base_yaml\nnum_fewshot: 3\n"}
    imported(tmp_path, 'include: _middle_yaml\ntask: small\ndescription: "Birds.\\n\\n"\n', files=base)
    task = task_of(tmp_path, "small")

    assert task.definition.protocol.shots == 3
    assert task.prompt().instruction({}) == "Birds."


@pytest.mark.parametrize(
    ("keys", "zero", "one"),
    [
        ('description: "Birds.\\n\\n"\nnum_fewshot: 1', "Birds.\n\nQ:1", "Birds.\n\nQ:0 x\n\nQ:1"),
        ('description: "Birds.\\n"', "Birds.\nQ:1", "Q:0 x\n\nBirds.\nQ:1"),
        ('fewshot_delimiter: "\\n"\ndescription: "B {{n}}\\n"', "B 1\nQ:1", "B 1\nQ:0 x\nQ:1"),
    ],
)
def test_the_description_precedes_the_first_question(keys: str, zero: str, one: str, tmp_path: Path) -> None:
    text = f"task: t\ndataset_path: a/b\ntest_split: test\ndoc_to_text: 'Q:{{{{n}}}}'\ndoc_to_target: a\n{keys}\n"
    source = put(tmp_path, "t", test=[{"n": 1, "a": "y"}], train=[{"n": 0, "a": "x"}])
    imported(tmp_path, f"training_split: train\n{text}")
    task = task_of(tmp_path, "t")

    assert prompts(task, source) == [[f"{zero} y"]]
    assert prompts(task, source, shots=1) == [[f"{one} y"]]


def test_demonstrations_in_the_yaml_are_text_of_the_prompt(tmp_path: Path) -> None:
    text = (
        "task: t\ndataset_path: a/b\ntest_split: test\ndoc_to_text: 'Q: {{n}}'\ndoc_to_target: '{{a}}'\n"
        "num_fewshot: 2\ndescription: 'Add. '\n"
        "fewshot_config: {sampler: first_n, samples: [{n: 1, a: '{2}'}, {n: 2, a: x}, {n: 3, a: z}]}\n"
    )
    source = put(tmp_path, "t", test=[{"n": 5, "a": "y"}])
    imported(tmp_path, text)

    assert prompts(task_of(tmp_path, "t"), source) == [["Add. Q: 1 {2}\n\nQ: 2 x\n\nQ: 5 y"]]


def test_columns_with_the_names_of_templates_words_become_fields(tmp_path: Path) -> None:
    text = CHOICE.replace("{{question}}", "{{options|join('/')}}").replace("choices.text", "options")
    rows = [{**row, "options": ["b", "c"]} for row in RECORDS]
    source = put(tmp_path, "birds", test=rows, train=rows)
    imported(tmp_path, text)

    assert prompts(task_of(tmp_path, "birds"), source)[1] == ["Question: b/c\nAnswer: b", "Question: b/c\nAnswer: c"]


@pytest.mark.parametrize(
    ("target", "choices", "gold"),
    [
        ("1", "[a, b]", 1),
        ("key", "[A, B]", 1),
        ("index", "[a, b]", 1),
        ("'{{index}}'", "{x: a, y: b}", 1),
        ("'{{ {\"B\": 1}[key] }}'", "'{{[one, two]}}'", 1),
        ("'{{two}}'", "'{{[one, two]}}'", 1),
        ("'{{index}}'", "pair", 1),
        ("'{{both}}'", "'{{[one, two]}}'", (0, 1)),
    ],
)
def test_gold_is_an_index_or_the_text_of_a_choice(target: str, choices: str, gold: Any, tmp_path: Path) -> None:
    row = {"question": "?", "key": "B", "index": 1, "one": "x", "two": "y", "pair": ["x", "y"], "both": [0, 1]}
    text = CHOICE.replace('"{{choices.label.index(key)}}"', target).replace('"{{choices.text}}"', choices)
    source = put(tmp_path, "birds", test=[row], train=[row])
    imported(tmp_path, text)
    (example,) = task_of(tmp_path, "birds").evaluation(source)

    assert example.gold == (gold if isinstance(gold, tuple) else (gold,))


@pytest.mark.parametrize(
    ("prefix", "text", "prompt"),
    [
        ("So", "Q: {{question}}", "Q: Which swims? So duck\n\nQ: Which sings? So wren"),
        ("So ", "Q: {{question}}", "Q: Which swims? So duck\n\nQ: Which sings? So  wren"),
        ("\\nSo", "Q: {{question}}", "Q: Which swims?\nSo duck\n\nQ: Which sings?\nSo wren"),
        ("So", "Q: {{question}}\\n", "Q: Which swims?\nSo duck\n\nQ: Which sings?\nSo wren"),
    ],
)
def test_the_beginning_of_an_answer_is_part_of_the_query(prefix: str, text: str, prompt: str, tmp_path: Path) -> None:
    source = put(tmp_path, "birds", test=RECORDS, train=RECORDS[::-1])
    imported(tmp_path, with_key("gen_prefix", f'"{prefix}"').replace("Question: {{question}}\\nAnswer:", text))

    assert prompts(task_of(tmp_path, "birds"), source, shots=1)[0][0] == prompt


def test_a_demonstration_has_the_delimiter_that_a_scored_likelihood_has_not(tmp_path: Path) -> None:
    text = (
        "task: words\ndataset_path: a/b\noutput_type: loglikelihood\ntest_split: test\n"
        "doc_to_text: \"{{text.split(' ')[:-1]|join(' ')}}\"\ndoc_to_target: \"{{' '+text.split(' ')[-1]}}\"\n"
    )
    source = put(tmp_path, "words", test=[{"text": "a b c"}, {"text": "d e f"}])
    imported(tmp_path, text)
    task = task_of(tmp_path, "words")

    assert prompts(task, source) == [["a b c"], ["d e f"]]
    assert prompts(task, source, shots=1)[1] == ["a b  c\n\nd e f"]
    assert task.definition.metrics == ["perplexity", "greedy_accuracy"]


def test_sampling_with_a_majority_vote(tmp_path: Path) -> None:
    text = SUMS.replace("do_sample: false, temperature: 0.0", "do_sample: true, temperature: 0.5") + "repeats: 8\n"
    imported(
        tmp_path, text.replace("{function: take_first}]\n  - name: fl", "{function: majority_vote}]\n  - name: fl")
    )
    definition = task_of(tmp_path, "sums").definition

    assert definition.decode is not None
    assert (definition.decode.samples, definition.decode.temperature) == (8, 0.5)
    assert definition.metric_names == ("number_match:vote=majority@strict-match", "number_match@flexible")


def test_a_group_is_a_suite_with_its_tags_and_overrides(tmp_path: Path) -> None:
    group = (
        "group: zoo\ntask:\n  - birds_tag\n  - {task: fish, num_fewshot: 1}\n"
        "  - {group: inner, task: [fish], aggregate_metric_list: [{metric: acc, weight_by_size: false}]}\n"
        "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    files = {"birds.yaml": CHOICE + "tag: birds_tag\n", "fish.yaml": CHOICE.replace("task: birds", "task: fish")}
    with pytest.raises(RunError, match=r"fish\.yaml: a file with other content exists here"):
        imported(tmp_path, group, files=files)
    (tmp_path / "again").mkdir()
    found = imported(tmp_path / "again", group.replace(", num_fewshot: 1", ""), files=files)
    library = Library([tmp_path / "again/out"])

    assert [each.name for each in found if each.how == "suite"] == ["lm-eval/inner", "lm-eval/zoo"]
    assert library.suite("lm-eval/zoo").tasks == ["lm-eval/birds", "lm-eval/fish", "lm-eval/inner"]
    assert [library.suite(f"lm-eval/{name}").average for name in ("zoo", "inner")] == ["micro", "macro"]


def test_names_from_an_imported_file_stay_in_the_folder(tmp_path: Path) -> None:
    (report,) = imported(
        tmp_path, CHOICE.replace("task: birds", "task: ../../b/c").replace("test_split: test", "test_split: ../x")
    )
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    assert report.name == "lm-eval/b-c"
    assert files == {"yaml/task.yaml", "out/tasks/lm-eval/b-c.yaml", "out/prompts/lm-eval/b-c/lm-eval.jinja"}
    assert (
        yaml.safe_load((tmp_path / "out/tasks/lm-eval/b-c.yaml").read_text())["data"]["local"]["../x"]
        == "lm-eval/b-c/x.jsonl"
    )


def with_key(key: str, value: str) -> str:
    """The multiple-choice task with another value of a key, which then stands in line 9 or is the last one."""
    lines = [line for line in CHOICE.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join([*lines, f"{key}: {value}"]) + "\n"


@pytest.mark.parametrize(
    ("name", "bundled"),
    [
        ("coqa", "coqa"),
        ("drop", "drop"),
        ("truthfulqa_mc2", "truthfulqa/mc2"),
        ("wikitext", "wikitext-2"),
        ("squadv2", "squadv2"),
        ("webqs", "webquestions"),
        ("arithmetic_1dc", "arithmetic/1d-composite"),
        ("humaneval", None),
    ],
)
def test_a_refusal_names_the_bundled_task_of_the_same_data(name: str, bundled: str | None, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(with_key("process_results", "!function utils.f").replace("task: birds", f"task: {name}"))
    with pytest.raises(TaskError) as caught:
        LmEvalImport(tmp_path / "out", None, trust_remote_code=False).file(path)

    expected = "which cannot be frozen" + (f"; icl-eval has its own task {bundled}" if bundled else "")
    assert str(caught.value).endswith(expected)
    assert bundled is None or bundled in Library().files


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            with_key("process_docs", "!function utils.f"),
            r":13: `process_docs` is Python code; --trust-remote-code runs it",
        ),
        (with_key("doc_to_text", "!function utils.f"), r":12: `doc_to_text` is Python code"),
        (
            with_key("process_results", "!function utils.f"),
            r":13: `process_results` computes the scores by Python code",
        ),
        (with_key("class", "!function utils.F"), r":13: `class` is a Python class"),
        (with_key("doc_to_image", "pictures"), r":13: `doc_to_image` is about images"),
        (with_key("gen_prefix", "'{{q}}'"), r":13: `gen_prefix` is a template, which has no counterpart"),
        (with_key("output_type", "guess"), r":12: `output_type: guess` is not one of multiple_choice, "),
        (with_key("dataset_path", "imdb"), r":12: `dataset_path: imdb` is not the name of a data set on the Hub"),
        (with_key("dataset_kwargs", "{data_dir: x}"), r":13: `dataset_kwargs.data_dir` has no counterpart"),
        (with_key("test_split", "null"), r"task\.yaml:1: there is neither a `test_split` nor a `validation_split`"),
        (
            with_key("doc_to_text", "'{% macro f() %}{% endmacro %}'"),
            r":12: `doc_to_text` is a template that the sandbox",
        ),
        (with_key("doc_to_text", "'{{ q.__class__.mro() }}'"), r":12: `doc_to_text` is a template that the sandbox"),
        (
            with_key("doc_to_choice", '"[{% for c in choices %}{{c}}{% endfor %}]"'),
            r":12: `doc_to_choice` is a text that Python",
        ),
        (
            with_key("doc_to_text", "\"{{ docs | map(attribute='__init__') | list }}\""),
            r":12: `doc_to_text` is a template that the sandbox rejects: it reads '__init__'",
        ),
        (
            with_key("generation_kwargs", "{until: !function u.f}"),
            r":13: `generation_kwargs.until` is Python code \(!func",
        ),
        (with_key("fewshot_config", "{doc_to_text: '{{q}}'}"), r":13: `fewshot_config.doc_to_text` has no counterpart"),
        (with_key("doc_to_choice", "null"), r"`doc_to_choice` has no options"),
        (
            CHOICE.split("metric_list")[0] + "metric_list: [{metric: !function u.f}]\n",
            r":10: no metric can be expressed: ",
        ),
        (
            SUMS.replace("function: regex,", "function: custom,"),
            r":16: no filter can be expressed: .*`custom` has no counter",
        ),
        ("include: gone_yaml\ntask: x\n", r":1: the included file .*gone_yaml does not exist"),
        ("include: task.yaml\ntask: x\n", r":1: task.yaml includes itself"),
        ("include: 3\ntask: x\n", r":1: `include` must be the name of a file"),
        ("group: g\ntask: [g]\n", r":1: the group g contains itself"),
        ("group: g\ntask:\n  - {group: h, task: [g]}\n", r":1: the group g contains itself"),
        ("group: g\ntask: 3\n", r":2: `task`: Input should be"),
        ("group: g\ntask: []\n", r":1: the group g has no tasks"),
        (with_key("generation_kwargs", "[a]"), r":13: `generation_kwargs`: Input should be a valid dictionary$"),
        (with_key("filter_list", "[{name: x}]"), r":13: `filter_list\.0\.filter`: "),
        (CHOICE.split("metric_list")[0] + "metric_list: [acc]\n", r":10: `metric_list\.0`: "),
        (with_key("fewshot_delimiter", "3"), r":13: `fewshot_delimiter`: "),
        (
            with_key("num_fewshot", "-2"),
            r"task\.yaml: the task converted from this file is not valid: `protocol\.shots`",
        ),
        ("dataset_path: a/b\n", r":1: this file has no `task`; it is meant to be included by others"),
        ("group: g\ntask: [nothing]\n", r":2: the group contains 'nothing', which no YAML file below .* defines"),
        ("task: [\n", r"task\.yaml:2: the YAML does not parse"),
        (
            with_key("dataset_kwargs", "{data_files: {test: 'https://x/y.jsonl'}}").replace("zoo/birds", "json"),
            "are downloaded from",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_sentence_with_file_and_line(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml/utils.py").write_text("raise AssertionError('this code must not run')\n")

    with pytest.raises(TaskError, match=sentence) as caught:
        imported(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


class Stub:
    """A task of lm_eval whose code doubles a number."""

    fewshot_cfg = type("Config", (), {"doc_to_text": None, "doc_to_target": None, "doc_to_choice": None})
    config = type("Config", (), {"description": "", "fewshot_delimiter": "\n\n"})

    def __init__(self, records: Mapping[str, Any], partial: bool) -> None:
        self.eval_docs, self.partial, self._shown = list(records["test"]), partial, list(records["train"])

    def fewshot_docs(self) -> list[dict[str, Any]]:
        return self._shown

    def doc_to_text(self, doc: Mapping[str, Any], _: Any = None) -> Any:
        return doc["n"] % 2 if self.partial else f"Twice {doc['n']} is"

    def doc_to_target(self, doc: Mapping[str, Any], _: Any = None) -> Any:
        return "so." if self.partial else str(2 * doc["n"])

    def doc_to_choice(self, doc: Mapping[str, Any], _: Any = None) -> list[str]:
        return [f"{doc['n']} is even,", f"{doc['n']} is odd,"] if self.partial else ["2", "4", "6"]


@pytest.mark.parametrize("partial", [False, True])
def test_records_of_python_code_are_frozen(partial: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path, "birds", test=[{"n": 1}, {"n": 2}], train=[{"n": 3}])
    monkeypatch.setattr(package, "is_installed", lambda: True)
    monkeypatch.setattr(package, "package_task", lambda _, records: Stub(records, partial))
    monkeypatch.setattr(package, "compared", lambda *_: "compared")
    (report,) = imported(tmp_path, with_key("process_docs", "!function utils.f"), trust=True, source=source)
    frozen = prompts(task_of(tmp_path, "birds"), LocalSource(tmp_path / "out/data"), shots=1)

    assert (report.how, report.compared) == ("frozen", "compared")
    assert "the records are frozen, because `process_docs` is Python code" in report.notes.changed
    if partial:
        assert frozen[1] == ["3 is odd, so.\n\n2 is even, so.", "3 is odd, so.\n\n2 is odd, so."]
    else:
        assert frozen[1] == [f"Twice 3 is 6\n\nTwice 2 is {n}" for n in (2, 4, 6)]


def test_freezing_needs_the_package_and_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = with_key("process_docs", "!function utils.f")
    monkeypatch.setattr(package, "is_installed", lambda: False)
    with pytest.raises(
        TaskError, match="is Python code, which needs the package lm_eval; install it together with icl-eval"
    ):
        imported(tmp_path, text, trust=True)
    monkeypatch.setattr(package, "is_installed", lambda: True)
    with pytest.raises(TaskError, match="which needs the records; use --data hub or --data-dir"):
        imported(tmp_path, text, trust=True)


CODE = "def f(docs):\n    return docs.map(lambda doc: {'question': doc['question'].upper()})\n"


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (CHOICE, "whole"),
        (CHOICE + "gen_prefix: 'So'\n", "whole"),
        (CHOICE + "gen_prefix: 'So '\ntarget_delimiter: ''\n", "whole"),
        (CHOICE + 'description: "Birds of {{key}}.\\n\\n"\nnum_fewshot: 1\n', "whole"),
        (with_key("process_docs", "!function utils.f"), "frozen"),
        (with_key("doc_to_choice", "\"[{% for c in choices.text %}'{{c}}',{% endfor %}]\""), "frozen"),
    ],
)
def test_prompts_are_those_of_the_installed_package(text: str, how: str, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    source = put(tmp_path, "birds", test=RECORDS, train=RECORDS[::-1])
    (report,) = imported(tmp_path, text, trust=True, source=source, files={"utils.py": CODE})

    assert report.how == how
    assert report.compared.startswith("the first 2 prompts equal those of lm_eval, with 0 and ")


def test_another_prompt_is_found(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    source = put(tmp_path, "birds", test=RECORDS, train=RECORDS[::-1])
    imported(tmp_path, CHOICE)
    prompt = tmp_path / "out/prompts/lm-eval/birds/lm-eval.jinja"
    prompt.write_text(prompt.read_text().replace("Answer:", "Answer :"))
    from icl_eval.importing.lm_eval_config import read_config

    message = package.compared(
        read_config(tmp_path / "yaml/task.yaml"), task_of(tmp_path, "birds"), {"test": RECORDS, "train": RECORDS}
    )

    assert message.startswith(
        "2 of the first 2 prompts with 0 demonstrations differ; after 29 characters, lm_eval has "
    )
    assert source.label == "local"


def test_code_that_fails_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    source = put(tmp_path, "birds", test=RECORDS, train=RECORDS)

    with pytest.raises(IclEvalError, match=r"utils\.py: `!function utils\.f` cannot be loaded: ZeroDivisionError"):
        imported(tmp_path, with_key("process_docs", "!function utils.f"), True, source, {"utils.py": "1 / 0\n"})
