"""A task in Chinese, answered by the model under `ICL_EVAL_MODEL`, from its file to its scores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import sacrebleu
from toy_tasks import write

from icl_eval import Library, evaluate, rescore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint"),
]

SHOWN = {
    "Good morning.": "早上好。",
    "I like tea.": "我喜欢茶。",
    "He is a teacher.": "他是老师。",
    "Today is Monday.": "今天是星期一。",
}
ASKED = {"I like coffee.": "我喜欢咖啡。", "She is a doctor.": "她是医生。", "Today is Sunday.": "今天是星期天。"}
YAML = """\
task: chinese
about: Sentences translated into Chinese.
answer: text
data: {local: {train: train.jsonl, test: test.jsonl}}
splits: {demonstrations: train, evaluation: test}
fields: {en: en}
references: zh
decode: {max_tokens: 16}
prompts: [plain]
metrics: [{bleu: {tokenize: zh}}, {mlqa_f1: {language: zh}}]
"""


def test_chinese_translations_of_a_real_model_are_measured(tmp_path: Path) -> None:
    write(tmp_path, "tasks/chinese.yaml", YAML)
    write(tmp_path, "prompts/chinese/plain.jinja", "English: {{ en }}\nChinese:")
    for split, rows in (("train", SHOWN), ("test", ASKED)):
        lines = [json.dumps({"en": english, "zh": chinese}) for english, chinese in rows.items()]
        write(tmp_path, f"{split}.jsonl", "\n".join(lines))
    folder = tmp_path / "run"
    found = evaluate(
        os.environ["ICL_EVAL_MODEL"], "chinese", shots=4, library=Library([tmp_path]), data=tmp_path, out=folder
    )
    entries = [json.loads(line) for line in (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    texts, references = [entry["generated"][0] for entry in entries], [entry["references"][0] for entry in entries]

    def bleu(tokenize: str) -> float:
        return float(sacrebleu.BLEU(tokenize=tokenize).corpus_score(texts, [references]).score)

    assert found.score("chinese", metric="bleu:tokenize=zh").value == pytest.approx(bleu("zh"))
    assert 0.1 < found.score("chinese", metric="mlqa_f1:language=zh").value < 1
    assert rescore(folder, metrics="bleu:tokenize=char").scores[0].value == pytest.approx(bleu("char"))
