import subprocess
import sys

import pytest

from icl_eval.errors import UnknownName
from icl_eval.metrics import METRICS, metric


def test_metrics_are_known_by_their_own_names() -> None:
    names = "accuracy f1a gender_parity group_exact_match macro_f1 matthews_correlation record_em record_f1"

    assert sorted(METRICS) == names.split()
    assert [metric(name).name for name in METRICS] == [*METRICS]


def test_misspelt_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no metric is named 'acuracy'; did you mean accuracy"):
        metric("acuracy")


def test_metrics_import_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'scipy', 'sklearn', 'evaluate', 'datasets', 'pandas'}"
    script = f"import sys, icl_eval.metrics; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
