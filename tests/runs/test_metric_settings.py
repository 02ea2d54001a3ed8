"""Metrics with settings, and metrics of languages without spaces, from the task file to the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import sacrebleu
from toy_tasks import write

from icl_eval import Library, Task, evaluate, rescore
from icl_eval.errors import IclEvalError, MetricError
from icl_eval.runs.check import inspect
from icl_eval.testing import FakeLM

from .folders import examples, manifest

RECORDS = [{"en": "The weather is fine.", "zh": "天气很好。"}, {"en": "He went to Beijing.", "zh": "他去了北京。"}]
WRITTEN = ["天气好。", "他去了北京。"]
YAML = """\
task: to/chinese
about: Sentences translated into Chinese.
answer: text
data: {local: {test: chinese.jsonl}}
splits: {evaluation: test}
fields: {en: en}
references: zh
prompts: [plain]
metrics: METRICS
"""


@pytest.fixture
def lm() -> FakeLM:
    return FakeLM({f"{row['en']}:": f" {text}\n" for row, text in zip(RECORDS, WRITTEN, strict=True)})


def library(root: Path, metrics: str, more: str = "") -> Library:
    write(root, "tasks/to/chinese.yaml", YAML.replace("METRICS", metrics) + more)
    write(root, "prompts/to/chinese/plain.jinja", "{{ en }}:")
    write(root, "data/chinese.jsonl", "".join(json.dumps(row) + "\n" for row in RECORDS))
    return Library([root])


def test_settings_of_a_task_file_reach_every_result(tmp_path: Path, lm: FakeLM) -> None:
    metrics = "['bleu:tokenize=zh:lowercase=true', chrf, {mlqa_f1: {language: zh}}]"
    tasks = library(tmp_path, metrics, "primary: {mlqa_f1: {language: zh}}\n")
    names = ["bleu:lowercase=true:tokenize=zh", "chrf", "mlqa_f1:language=zh"]
    bleu = sacrebleu.BLEU(tokenize="zh", lowercase=True)
    expected = bleu.corpus_score(WRITTEN, [[row["zh"] for row in RECORDS]]).score

    assert inspect(tasks, "to/chinese", tmp_path / "data") == "2 examples, 0 candidate demonstrations, prompts plain"
    result = evaluate(lm, "to/chinese", shots=0, library=tasks, data=tmp_path / "data", out=tmp_path / "run")

    assert [line.metric for line in result] == names
    assert result.scores[0].value == pytest.approx(expected)
    assert "|BLEU|nrefs:1|case:lc|eff:no|tok:zh|" in result.scores[0].signature
    assert result.score("to/chinese", metric=names[2]).value == pytest.approx((6 / 7 + 1) / 2)
    assert "|mlqa:zh|" in result.scores[2].signature
    (record,) = manifest(tmp_path / "run")["tasks"]
    assert (record["metrics"], record["primary"]) == (names, names[2:])
    assert all(name in result.table(format) for name in names for format in ("table", "csv", "json"))
    assert [line.metric for line in rescore(tmp_path / "run", metrics="bleu:tokenize=zh:lowercase=true")] == names[:1]


FAULTS = {
    "[{bleu: {tokenise: zh}}]": ":9: no setting of bleu is named 'tokenise'; did you mean tokenize?",
    "\n- chrf\n- bleu: {tokenize: hz-mecab}": ":11: no value of bleu's `tokenize` is named 'hz-mecab'; did you mean",
    "\n- bleu:\n  tokenize: zh": ":10: `metrics`, value {'bleu': None, 'tokenize': 'zh'}: a metric with settings is ",
    "[{bleu: zh}]": ":9: `metrics`, value {'bleu': 'zh'}: a metric with settings is written `{bleu: {tokenize: zh}}`,",
    "[mlqa_f1]": ":9: mlqa_f1 needs a language, as in `mlqa_f1: {language: zh}`; choose from en, es, hi, ",
    "[{accuracy: {tokenize: zh}}]": ":9: accuracy takes no settings; exact_match, mlqa_em, mlqa_f1, bleu, chrf, ter, ",
    "[{bleu: {tokenize: ja-mecab}}]": ":9: to/chinese cannot be scored with bleu:tokenize=ja-mecab: "
    "bleu:tokenize=ja-mecab needs a package that is not installed: pip install 'sacrebleu[ja]'",
    "[squad_f1]": ":9: to/chinese cannot be scored with squad_f1: squad_f1 splits texts at spaces, and most letters",
    "[bleu]": ":9: to/chinese cannot be scored with bleu: bleu splits texts at spaces, and most letters of the ref",
}


@pytest.mark.parametrize("metrics", FAULTS)
def test_fault_of_a_metric_is_found_before_a_model_runs(
    metrics: str, tmp_path: Path, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)
    tasks = library(tmp_path, metrics)
    for attempt in (
        lambda: inspect(tasks, "to/chinese", tmp_path / "data"),
        lambda: evaluate(lm, "to/chinese", shots=0, library=tasks, data=tmp_path / "data"),
    ):
        with pytest.raises(IclEvalError) as caught:
            attempt()

        assert str(caught.value).startswith(f"{tmp_path / 'tasks/to/chinese.yaml'}{FAULTS[metrics]}")
    assert lm.answered == 0


def test_primary_metric_with_other_settings_is_not_among_the_metrics(tmp_path: Path) -> None:
    tasks = library(tmp_path, "[{bleu: {tokenize: zh}}]", "primary: {bleu: {tokenize: char}}\n")
    with pytest.raises(IclEvalError, match=r":10: `primary` is 'bleu:tokenize=char', which is not among the `metrics`"):
        inspect(tasks, "to/chinese", tmp_path / "data")


def test_settings_in_python(lm: FakeLM) -> None:
    named: list[list[str | dict[str, dict[str, str]]]] = [
        ["char_f1", "bleu:tokenize=char"],
        ["char_f1", {"bleu": {"tokenize": "char"}}],
    ]
    for metrics in named:
        task = Task.from_records(
            "chinese", evaluation=RECORDS, prompt="{{ en }}:", answer="text", references="zh", metrics=metrics
        )

        assert [line.metric for line in evaluate(lm, task, shots=0)] == ["char_f1", "bleu:tokenize=char"]


def test_words_of_texts_without_spaces_are_not_counted(tmp_path: Path) -> None:
    texts = [{"text": "天气很好。 他去了北京。"}, {"text": "อากาศดีมาก"}, {"text": "tea"}]

    def of(*metrics: str) -> Task:
        return Task.from_records(
            "texts", evaluation=texts, prompt="", answer="likelihood", references="text", metrics=metrics
        )

    lm = FakeLM(bos=True)
    with pytest.raises(MetricError) as caught:
        evaluate(lm, of("word_perplexity"), shots=0)

    assert str(caught.value) == (
        "texts cannot be scored with word_perplexity: word_perplexity counts words between spaces, and most texts are "
        "of scripts without spaces, such as Chinese, Japanese or Thai; `byte_perplexity` or `bits_per_byte` fits"
    )
    assert lm.answered == 0
    evaluate(lm, of("byte_perplexity"), shots=0, out=tmp_path)
    assert [line["unspaced"] for line in examples(tmp_path)] == [True, True, False]
    with pytest.raises(
        MetricError, match=r"^texts cannot be scored with word_perplexity: word_perplexity counts words"
    ):
        rescore(tmp_path, metrics="word_perplexity")
