"""The adapter on metric scripts written here; nothing is fetched."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import METRICS, AnyMetric, CorpusMetric, estimate, metric
from icl_eval.metrics.external import EvaluateMetric

from .answered import correlated, right

SCRIPT = """
import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Share of predictions that agree.",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references):
        agreed = sum(p == r for p, r in zip(predictions, references)) / len(predictions)
        if self.config_name == "both":
            return {"agreement": agreed, "error": 1 - agreed, "what": "agreement"}
        return {"agreement": agreed}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A metric script, with the library's caches in a temporary folder."""
    import evaluate

    folder = tmp_path_factory.mktemp("metric")
    path = folder / "agreement.py"
    path.write_text(SCRIPT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        for cache in ("HF_MODULES_CACHE", "HF_METRICS_CACHE"):
            patch.setattr(evaluate.config, cache, folder / cache)
        yield path
    for name in [name for name in sys.modules if name.startswith("evaluate_modules")]:
        del sys.modules[name]


def load(name: str) -> AnyMetric:
    return metric(name, trust_remote_code=True)


def test_code_that_is_not_trusted_is_not_run(script: Path) -> None:
    with pytest.raises(MetricError, match="runs code that is not part of icl-eval; allow it with --trust-remote-code"):
        metric(f"evaluate:{script}")


def test_only_entry_of_the_result_needs_no_key(script: Path) -> None:
    predictions = correlated(0, clusters=12)
    ours, theirs = estimate(METRICS["accuracy"], [predictions]), estimate(load(f"evaluate:{script}"), [predictions])

    assert theirs.value == pytest.approx(ours.value)
    assert dict(theirs.influence) == pytest.approx(dict(ours.influence))
    assert theirs.standard_error == pytest.approx(ours.standard_error, rel=0.2)
    assert theirs.low < theirs.value < theirs.high


def test_key_and_configuration_choose_an_entry(script: Path) -> None:
    chosen = load(f"evaluate:{script}#both:error")

    assert chosen.name == f"evaluate:{script}#both:error"
    assert isinstance(chosen, CorpusMetric)
    assert chosen.score(right([True, False, True, True])) == 0.25


def test_several_entries_without_a_key_are_listed(script: Path) -> None:
    with pytest.raises(MetricError, match=r"computes agreement, error, what; name one: .*#both:KEY"):
        estimate(load(f"evaluate:{script}#both"), [right([True, False])])


def test_unknown_key_is_answered_with_the_nearest(script: Path) -> None:
    with pytest.raises(UnknownName, match=r"no result of .* is named 'agrement'; did you mean agreement"):
        estimate(load(f"evaluate:{script}:agrement"), [right([True, False])])


def test_entry_that_is_no_number_is_an_error(script: Path) -> None:
    with pytest.raises(MetricError, match="computes 'what' as 'agreement', which is not a number"):
        estimate(load(f"evaluate:{script}#both:what"), [right([True, False])])


def test_metric_that_wants_texts_is_one_sentence() -> None:
    def compute(predictions: list[int], references: list[int]) -> dict[str, float]:
        raise ValueError("expected strings")

    with pytest.raises(MetricError, match="evaluate:bleu cannot be computed from option indices: expected strings"):
        EvaluateMetric("evaluate:bleu", compute, None).score(right([True]))


def test_script_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"absent\.py cannot be loaded"):
        load(f"evaluate:{tmp_path / 'absent.py'}")
