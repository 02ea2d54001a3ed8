import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import METRICS, AnyPrediction, Kind, estimate, fitting, metric

from .answered import answered, likely, wrote

OF_KIND: dict[Kind, str] = {
    "choice": "accuracy macro_f1 matthews_correlation f1a group_exact_match gender_parity record_em record_f1"
    " probability_mass answer_loss multiple_choice_grade expected_grade",
    "text": "exact_match number_match math_match squad_em squad_f1 contains_match referent_match coqa_em coqa_f1"
    " quac_f1 drop_em drop_f1 char_f1 rouge1 rouge2 rougeL bleu chrf ter mlqa_em mlqa_f1",
    "likelihood": "greedy_accuracy perplexity token_perplexity word_perplexity byte_perplexity per_shot_loss"
    " token_loss bits_per_byte zlib_ratio in_context_score min_k min_k_plus_plus",
}


@pytest.mark.parametrize("kind", OF_KIND)
def test_every_metric_is_registered_under_its_name(kind: Kind) -> None:
    assert fitting(kind) == OF_KIND[kind].split()
    assert [metric(name).name for name in fitting(kind) if name in METRICS] == [
        n for n in fitting(kind) if n in METRICS
    ]


def test_metric_of_another_kind_of_answers_is_answered_with_those_that_fit() -> None:
    with pytest.raises(MetricError) as caught:
        estimate(METRICS["accuracy"], [likely([-1.0], [1])])

    assert str(caught.value) == (
        "accuracy measures choices, but these answers are likelihoods; choose from greedy_accuracy, perplexity, "
        "token_perplexity, word_perplexity, byte_perplexity, per_shot_loss, token_loss, bits_per_byte, "
        "zlib_ratio, in_context_score, min_k, min_k_plus_plus"
    )


def test_metric_of_choices_takes_no_extraction() -> None:
    with pytest.raises(MetricError, match=r"^accuracy measures choices, but these answers are texts"):
        metric("accuracy@strict", {"strict": []})


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_only_its_kind_of_prediction(name: str) -> None:
    tokens: Any = ((-1.0,) * 500,)
    answers: dict[Kind, list[AnyPrediction]] = {
        "choice": [*answered([0, 1], [0, 1], groups=[1, 1], clusters=[1, 1])],
        "text": [wrote("a", "a")],
        "likelihood": [
            replace(*likely([-1.0], [1]), **dict.fromkeys(("windows", "means", "sds"), tokens), zlib_bytes=1)
        ],
    }
    for kind, predictions in answers.items():
        if kind == METRICS[name].of:
            estimate(METRICS[name], [predictions])
        else:
            with pytest.raises(MetricError, match=f"^{name} measures"):
                estimate(METRICS[name], [predictions])


def test_misspelt_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no metric is named 'acuracy'; did you mean accuracy"):
        metric("acuracy")


def test_metrics_import_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "scipy", "sklearn", "evaluate", "datasets", "pandas", "sacrebleu", "rouge_score"}
    script = f"import sys, icl_eval.metrics; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
