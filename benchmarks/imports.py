"""Whether `icl-eval import` reads YAML files of lm-eval, and whether the prompts are equal.

    python benchmarks/imports.py DATA_DIR

The files are those of the installed lm-eval. Data sets have the records of the official releases below the directory,
or, if there are none, the few hand-written ones of the tests; both in the columns of the Hub. Prints for
each file whether it is imported whole, frozen or refused, and how many of its first prompts are equal or why it is
refused. Exits with 1 if the prompts of an imported task differ or were not compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hub_records import READERS, Splits, hub_records

from icl_eval.errors import IclEvalError
from icl_eval.importing.folder import Imported
from icl_eval.importing.lm_eval import LmEvalImport
from icl_eval.importing.lm_eval_config import read_config
from icl_eval.tasks import LocalSource

TESTS = Path(__file__).parent.parent / "tests"
SPLITS = ("train", "validation", "test")
MOST = 60  # records of a split; 50 are compared
FILES = {
    "anli_r1": "anli/anli_r1.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arithmetic_1dc": "arithmetic/arithmetic_1dc.yaml",
    "bbh_cot_fewshot_snarks": "bbh/cot_fewshot/snarks.yaml",
    "bbh_zeroshot_snarks": "bbh/zeroshot/snarks.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "cb": "super_glue/cb/default.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "copa": "super_glue/copa/default.yaml",
    "coqa": "coqa/default.yaml",
    "drop": "drop/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "gsm8k_cot_self_consistency": "gsm8k/gsm8k-cot-self-consistency.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "humaneval": "humaneval/humaneval.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "logiqa": "logiqa/logiqa.yaml",
    "medqa_4options": "medqa/medqa.yaml",
    "mgsm_direct_en": "mgsm/direct/mgsm_direct_en.yaml",
    "mmlu_anatomy": "mmlu/default/mmlu_anatomy.yaml",
    "nq_open": "nq_open/nq_open.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "sciq": "sciq/sciq.yaml",
    "sglue_rte": "super_glue/rte/default.yaml",
    "squadv2": "squadv2/squadv2.yaml",
    "sst2": "glue/sst2/default.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "webqs": "webqs/webqs.yaml",
    "wic": "super_glue/wic/default.yaml",
    "wikitext": "wikitext/wikitext.yaml",
    "winogrande": "winogrande/default.yaml",
    "wmt-ro-en-t5-prompt": "wmt2016/ro_en-t5_prompt.yaml",
    "wmt14-en-fr": "translation/wmt14_en-fr.yaml",
    "xnli_en": "xnli/xnli_en.yaml",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    given = parser.parse_args()
    counts, failed = Counter[str](), False
    print("| task | imported | prompts, or why not |", "|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            try:
                report = import_task(name, given.data_dir, Path(folder))
                how, prompts = report.how, report.compared
                failed |= "equal" not in prompts
            except IclEvalError as error:
                how, prompts = "refused", error.message
            counts[how] += 1
            print(f"| `{name}` | {how} | {prompts} |", flush=True)
    print(f"\n{', '.join(f'{count} {how}' for how, count in counts.items())}")
    return int(failed)


def import_task(name: str, data_dir: Path, folder: Path) -> Imported:
    """Import a task into `out` below a folder, with the first records of its splits, which are put into `raw`.

    Raises:
        IclEvalError: it cannot be imported.
    """
    import lm_eval.tasks

    path = Path(lm_eval.tasks.__path__[0]) / FILES[name]
    config = read_config(path)
    hub = config.get("dataset_path"), config.get("dataset_name")
    rows = hub_records(data_dir, *hub) if hub[0] in READERS else _hand_written(*hub)
    for split, each in rows.items():
        target = folder / f"raw/lm-eval/{name}/{split}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in each[:MOST])
        target.write_text("".join(lines), encoding="utf-8")
    (folder / "raw").mkdir(exist_ok=True)
    importer = LmEvalImport(folder / "out", LocalSource(folder / "raw"), trust_remote_code=True)
    (report,) = importer.file(path)
    return report


def _hand_written(path: str | None, name: str | None) -> Splits:
    """The splits of a data set in the tests, any for one that they lack; none if it is not there."""
    sys.path.insert(0, str(TESTS))
    import standard_records
    import text_records

    found: Splits = {}
    for module in (standard_records, text_records):
        for split in SPLITS:
            with suppress(KeyError, StopIteration):
                found[split] = module.hub_rows(str(path), name, split)
    return {split: found[split] if split in found else next(iter(found.values())) for split in SPLITS} if found else {}


if __name__ == "__main__":
    sys.exit(main())
