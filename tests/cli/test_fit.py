from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from toy_tasks import answers, parity

from icl_eval import sweep
from icl_eval.testing import FakeLM

from .shell import IclEval


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("icl_eval.analysis.scaling.RESAMPLES", 10)
    models = [FakeLM(answers(range(right)), name=f"m{right}") for right in (2, 4, 6)]
    for lm, size in zip(models, (10**6, 10**7, 10**8), strict=True):
        lm.parameter_count = size
    return str(sweep(models, parity(), shots=0, out=tmp_path / "sweep").folder)


def test_sweep_is_fitted_by_model_size(icl_eval: IclEval, folder: str) -> None:
    done = icl_eval("fit", folder)

    assert done.code == 0
    assert "3 models by parameters: m2 1M, m4 10M, m6 100M" in done.out
    assert "logistic in loss" in done.out


@pytest.mark.parametrize("tokens", ["3e11", "m2=3e11,m4=3e11,m6=3e11"])
def test_training_tokens_are_one_number_or_one_for_each_model(icl_eval: IclEval, folder: str, tokens: str) -> None:
    done = icl_eval("fit", folder, "--by", "compute", "--tokens", tokens, "-f", "csv")
    (row,) = csv.DictReader(io.StringIO(done.out))

    assert [float(each) for each in row["sizes"].split()] == pytest.approx(
        [6 * n * 3e11 / 8.64e19 for n in (1e6, 1e7, 1e8)]
    )
    assert row["held_out"] == "m6"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tokens", "org/m2=1e9,m4"), "--tokens takes a number such as 3e11, or MODEL=N,..., not 'org/m2=1e9,m4'"),
        (("--tokens", "many"), "--tokens takes a number such as 3e11, or MODEL=N,..., not 'many'"),
        (("--by", "tokens", "--tokens", "org/m3.1=1e9,m2=1"), "model of these runs is named 'org/m3.1'"),
        (("--by", "compute"), "need the number of training tokens"),
        (("--columns", "size"), "column"),
    ],
)
def test_invalid_option_is_one_sentence(icl_eval: IclEval, folder: str, options: tuple[str, ...], message: str) -> None:
    assert message in icl_eval("fit", folder, *options).mistake


def test_plot_by_size_includes_the_fit(icl_eval: IclEval, folder: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "sizes.svg"

    assert icl_eval("plot", folder, "--kind", "sizes", "-o", str(path)).code == 0
    assert path.read_text().count("<path d=") > 10


def test_the_report_has_the_fit_of_three_models(icl_eval: IclEval, folder: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    members = sorted(str(each) for each in Path(folder).iterdir() if each.is_dir())

    icl_eval("report", folder, "-o", str(path))
    assert " predicted</title>" in path.read_text()
    icl_eval("report", *members[:2], "-o", str(path))
    assert " predicted</title>" not in path.read_text()
