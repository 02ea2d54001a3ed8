"""Records of official releases in the columns of the Hub's data sets, which tasks of lm-eval read."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Splits = dict[str, list[Record]]
LETTERS = "ABCD"
TRUTH = ("mc1_targets", "mc2_targets")
LABELS: dict[str, list[Any]] = {
    "boolq": [False, True],
    "cb": ["entailment", "contradiction", "neutral"],
    "copa": [0, 1],
    "rte": ["entailment", "not_entailment"],
    "wic": [False, True],
}
FOLDERS = {"boolq": "BoolQ", "cb": "CB", "copa": "COPA", "rte": "RTE", "wic": "WiC"}


def hub_records(data_dir: Path, path: str, name: str | None) -> Splits:
    """The splits of a data set, from the release below a directory.

    Raises:
        KeyError: the data set is not known here.
    """
    return READERS[path](data_dir, name or "")


def use_records(data_dir: Path) -> None:
    """Let `datasets.load_dataset` give these records instead of the Hub's, in this process."""
    import datasets

    def load_dataset(path: str, name: str | None = None, **_: Any) -> datasets.DatasetDict:
        splits = hub_records(data_dir, path, name)
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    datasets.load_dataset = load_dataset


def _lines(path: Path) -> list[str]:
    """The lines of a file, of its compressed copy, or of a copy cut to its first thousand lines."""
    cut = path.with_name(f"{path.stem}.first1000{path.suffix}")
    for file in (path, path.with_name(f"{path.name}.gz"), cut, cut.with_name(f"{cut.name}.gz")):
        if file.exists():
            text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            return text.decode().rstrip("\n").split("\n")
    raise FileNotFoundError(path)


def _json_lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in _lines(path)]


def _mmlu(data_dir: Path, name: str) -> Splits:
    found = {}
    for split in ("dev", "test"):
        with (data_dir / f"mmlu/{split}/{name}_{split}.csv").open(encoding="utf-8", newline="") as file:
            found[split] = [
                {"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5]), "subject": name}
                for row in csv.reader(file)
            ]
    return found


def _truthfulqa(data_dir: Path, _: str) -> Splits:
    rows = [
        {
            "question": row["question"],
            **{each: {"choices": list(row[each]), "labels": list(row[each].values())} for each in TRUTH},
        }
        for row in json.loads((data_dir / "truthfulqa/mc_task.json").read_text(encoding="utf-8"))
    ]
    return {"validation": rows}


def _gsm8k(data_dir: Path, _: str) -> Splits:
    return {split: _json_lines(data_dir / f"gsm8k/{split}.jsonl") for split in ("train", "test")}


def _bbh(data_dir: Path, name: str) -> Splits:
    return {"test": json.loads((data_dir / f"bbh/{name}.json").read_text(encoding="utf-8"))["examples"]}


def _sst2(data_dir: Path, _: str) -> Splits:
    rows = [
        {"sentence": line[2:], "label": int(line[0]), "idx": number}
        for number, line in enumerate(_lines(data_dir / "sst2/stsa.binary.dev"))
    ]
    return {"train": rows, "validation": rows}


def _with_choices(row: Record) -> Record:
    choices = row["question"]["choices"]
    return {
        "id": row["id"],
        "choices": {key: [each[key] for each in choices] for key in ("text", "label")},
        "answerKey": row["answerKey"],
    }


def _arc(data_dir: Path, name: str) -> Splits:
    files = {"train": "Train", "validation": "Dev", "test": "Test"}
    return {
        split: [
            {**_with_choices(row), "question": row["question"]["stem"]}
            for row in _json_lines(data_dir / f"arc/{name}/{name}-{file}.jsonl")
        ]
        for split, file in files.items()
    }


def _openbookqa(data_dir: Path, _: str) -> Splits:
    files = {"train": "train", "validation": "dev", "test": "test"}
    return {
        split: [
            {**_with_choices(row), "question_stem": row["question"]["stem"]}
            for row in _json_lines(data_dir / f"openbookqa/{file}.jsonl")
        ]
        for split, file in files.items()
    }


def _piqa(data_dir: Path, _: str) -> Splits:
    return {
        split: [
            {**row, "label": int(label)}
            for row, label in zip(
                _json_lines(data_dir / f"piqa/{file}.jsonl"), _lines(data_dir / f"piqa/{file}-labels.lst"), strict=True
            )
        ]
        for split, file in (("train", "train"), ("validation", "valid"))
    }


def _hellaswag(data_dir: Path, _: str) -> Splits:
    rows = [
        {
            **{key: row[key] for key in ("activity_label", "endings", "ctx")},
            "ctx_a": row["ctx"],
            "ctx_b": "",
            "label": str(row["label"]),
        }
        for row in _json_lines(data_dir / "hellaswag/hellaswag_val.preprocessed.jsonl")
    ]
    return {"train": rows, "validation": rows}


def _winogrande(data_dir: Path, _: str) -> Splits:
    return {
        "train": _json_lines(data_dir / "winogrande/train_xl.jsonl"),
        "validation": _json_lines(data_dir / "winogrande/dev.jsonl"),
    }


def _super_glue(data_dir: Path, name: str) -> Splits:
    return {
        split: [
            {**row, "label": LABELS[name].index(row["label"])}
            for row in _json_lines(data_dir / f"superglue/{FOLDERS[name]}/{file}.jsonl")
        ]
        for split, file in (("train", "train"), ("validation", "val"))
    }


def _anli(data_dir: Path, _: str) -> Splits:
    rows = [
        {"premise": row["context"], "hypothesis": row["hypothesis"], "label": "enc".index(row["label"])}
        for row in _json_lines(data_dir / "anli/R1/dev.jsonl")
    ]
    return {"train_r1": rows, "dev_r1": rows, "test_r1": rows}


def _lambada(data_dir: Path, _: str) -> Splits:
    return {"test": _json_lines(data_dir / "lambada/lambada_test.jsonl")}


def _nq(data_dir: Path, _: str) -> Splits:
    rows = _json_lines(data_dir / "nq_open/NQ-open.dev.jsonl")
    return {"train": rows, "validation": rows}


def _triviaqa(data_dir: Path, _: str) -> Splits:
    rows = [
        {
            "question": row["context"].removeprefix("Question: ").removesuffix("\nAnswer:"),
            "answer": {"value": row["answer"], "aliases": row["aliases"]},
        }
        for row in _json_lines(data_dir / "triviaqa/triviaqa_sm_sub.jsonl")
    ]
    return {"train": rows, "validation": rows}


READERS: dict[str, Callable[[Path, str], Splits]] = {
    "cais/mmlu": _mmlu,
    "truthfulqa/truthful_qa": _truthfulqa,
    "openai/gsm8k": _gsm8k,
    "SaylorTwift/bbh": _bbh,
    "nyu-mll/glue": _sst2,
    "allenai/ai2_arc": _arc,
    "allenai/openbookqa": _openbookqa,
    "baber/piqa": _piqa,
    "Rowan/hellaswag": _hellaswag,
    "allenai/winogrande": _winogrande,
    "aps/super_glue": _super_glue,
    "facebook/anli": _anli,
    "EleutherAI/lambada_openai": _lambada,
    "google-research-datasets/nq_open": _nq,
    "mandarjoshi/trivia_qa": _triviaqa,
}
"""Of each data set: its splits from a directory and the name of a configuration. Where a release lacks a split, or the
directory need not have it, another stands in, of which no query is made."""
