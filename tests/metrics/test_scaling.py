"""Laws against published ones, published scores, and an independent fit."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from icl_eval.errors import MetricError
from icl_eval.metrics.scaling import Curve, fit_logistic, fit_power_law
from icl_eval.references import published

PARAMETERS = np.array([125e6, 356e6, 760e6, 1.32e9, 2.65e9, 6.66e9, 12.85e9, 174.6e9])  # GPT-3, Table 2.1
PF_DAYS = np.array([2.6, 7.42, 15.8, 27.5, 55.2, 139, 268, 3640])  # and Table D.1


def lambada(metric: str) -> np.ndarray:
    """Zero-shot figures of GPT-3's eight sizes, as printed."""
    figures = [each for each in published("gpt3:LAMBADA", metric, 0) if each.shots == 0 and each.protocol is None]
    return np.array([each.value for each in figures if each.system.startswith("GPT-3")])


@pytest.mark.parametrize(
    ("sizes", "losses", "exponent", "coefficient", "irreducible"),
    [
        (PF_DAYS, 2.57 * PF_DAYS**-0.048, 0.048, 2.57, 0),  # Brown et al. 2020, Figure 3.1
        (PARAMETERS, (8.8e13 / PARAMETERS) ** 0.076, 0.076, 8.8e13**0.076, 0),  # Kaplan et al. 2020, L(N)
        (PF_DAYS, (3.1e8 / PF_DAYS) ** 0.050, 0.050, 3.1e8**0.050, 0),  # and L(C_min)
        (PARAMETERS, 1.69 + 406.4 / PARAMETERS**0.34, 0.34, 406.4, 1.69),  # Hoffmann et al. 2022, much data
        (PARAMETERS * 20, 1.69 + 410.7 / (PARAMETERS * 20) ** 0.28, 0.28, 410.7, 1.69),  # and large models
    ],
)
def test_published_laws_are_recovered(
    sizes: np.ndarray, losses: np.ndarray, exponent: float, coefficient: float, irreducible: float
) -> None:
    law = fit_power_law(sizes, losses, irreducible=bool(irreducible))

    assert law.exponent == pytest.approx(exponent, rel=1e-6)
    assert law.coefficient == pytest.approx(coefficient, rel=1e-4)
    assert law.floor == pytest.approx(irreducible, rel=1e-6)


def test_a_power_law_without_irreducible_term_is_the_regression_of_logarithms() -> None:
    losses = np.log(lambada("perplexity"))
    line = sm.OLS(np.log(losses), sm.add_constant(np.log(PARAMETERS))).fit()
    law = fit_power_law(PARAMETERS, losses)

    assert (law.log_coefficient, -law.exponent) == pytest.approx(tuple(line.params), rel=1e-9)


def test_the_irreducible_term_is_the_one_of_least_squares() -> None:
    losses = np.log(lambada("perplexity"))
    law = fit_power_law(PARAMETERS, losses, irreducible=True)

    def squares(floor: float) -> float:
        line = np.polyfit(np.log(PARAMETERS), np.log(losses - floor), 1, w=(losses - floor) / losses)
        return float(((np.log(np.exp(np.polyval(line, np.log(PARAMETERS))) + floor) - np.log(losses)) ** 2).sum())

    best = min(np.linspace(0, losses.min() - 1e-3, 400), key=squares)  # a grid, with the line in closed form
    assert law.floor == pytest.approx(best, abs=0.01)


def test_irreducible_loss_is_not_negative_where_losses_fall_faster_than_a_power() -> None:
    law = fit_power_law(PARAMETERS, 3 - 0.1 * np.log(PARAMETERS / 1e8), irreducible=True)

    assert 0 <= law.floor < 3


def test_loss_of_the_largest_gpt3_is_predicted_by_the_smaller_ones() -> None:
    losses = np.log(lambada("perplexity"))
    law = fit_power_law(PARAMETERS[:-1], losses[:-1], irreducible=True)

    assert np.exp(law.at(PARAMETERS[-1])) == pytest.approx(3.00, abs=0.1)


def test_a_sigmoid_in_the_loss_predicts_a_score_better_than_one_in_size() -> None:
    losses, scores = np.log(lambada("perplexity")), lambada("greedy_accuracy")
    of_loss = fit_power_law(PARAMETERS[:-1], losses[:-1], irreducible=True)
    in_loss = fit_logistic(np.exp(-losses[:-1]), scores[:-1], 0, 1, of_loss)
    in_size = fit_logistic(PARAMETERS[:-1], scores[:-1], 0, 1)
    off = [abs(float(law.at(PARAMETERS[-1])) - scores[-1]) for law in (in_loss, in_size)]

    assert scores[-1] == 0.762
    assert off[0] < 0.03 < 0.09 < off[1]


def test_a_planted_logistic_curve_is_recovered() -> None:
    odds = (PARAMETERS / 2e9) ** 0.7
    law = fit_logistic(PARAMETERS, 0.25 + 0.75 * odds / (1 + odds), 0.25, 1.0)

    assert (law.exponent, law.coefficient ** (-1 / law.exponent)) == pytest.approx((0.7, 2e9), rel=1e-6)
    assert law.at(2e9) == pytest.approx(0.625)


@pytest.mark.parametrize("scores", [np.ones(8), np.full(8, 0.2), np.linspace(0.9, 0.4, 8)])
def test_scores_at_a_bound_below_guessing_or_falling_have_a_curve(scores: np.ndarray) -> None:
    law = fit_logistic(PARAMETERS, scores, 0.25, 1.0)

    assert np.isfinite(law.at(PARAMETERS)).all()


def test_models_with_equal_losses_have_a_level_curve() -> None:
    losses = np.full(8, 2.0)
    law = fit_logistic(np.exp(-losses), np.linspace(0.3, 0.5, 8), 0.0, 1.0, fit_power_law(PARAMETERS, losses))

    assert law.at(PARAMETERS) == pytest.approx(np.full(8, 0.4))


@pytest.mark.parametrize(
    ("sizes", "losses", "message"),
    [
        ([1e6, 1e6, 1e6], [3.0, 2.0, 1.0], "2 parameters needs 2 models of different sizes, not 1"),
        ([1e6, 1e7, 1e8], [3.0, 0.0, 1.0], "losses above 0"),
    ],
)
def test_what_has_no_power_law_is_an_error(sizes: list[float], losses: list[float], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        fit_power_law(np.array(sizes), np.array(losses))


def curve(noise: float, common: float, seed: int) -> tuple[Curve, np.ndarray]:
    """Losses of 400 examples by a law, with noise of each example and model, and of the example for all models."""
    draws = np.random.default_rng(seed)
    sizes = np.array([1e6, 1e7, 1e8, 1e9])
    each = 3 * (sizes / 1e6) ** -0.1
    losses = each[:, None] * np.exp(draws.normal(0, noise, (4, 400)) + draws.normal(0, common, 400))
    means = losses.mean(axis=1)
    return Curve(means[None], (losses - means[:, None])[None] / 400, None, irreducible=False), sizes


def test_intervals_are_paired_so_what_all_models_find_hard_does_not_widen_them() -> None:
    widths = [
        np.ptp(np.quantile(c.resampled(s, 200)[0], [0.025, 0.975])) for c, s in (curve(0.1, x, 0) for x in (0, 1))
    ]

    assert widths[1] < 2 * widths[0]


def test_the_spread_of_resampled_exponents_is_that_of_new_samples() -> None:
    fits = [(c.fit(s).exponent, c.resampled(s, 40)[0].std()) for c, s in (curve(0.5, 0.5, seed) for seed in range(40))]
    exponents, errors = np.array(fits).T

    assert exponents.mean() == pytest.approx(0.1, abs=0.002)
    assert errors.mean() == pytest.approx(exponents.std(ddof=1), rel=0.3)


@pytest.mark.parametrize(("irreducible", "sizes"), [(False, 3), (True, 4)])
def test_the_largest_model_is_predicted_by_as_many_others_as_the_law_has_parameters(
    irreducible: bool, sizes: int
) -> None:
    x = np.array([10.0**power for power in range(6, 6 + sizes)])
    values = (1 + 3 * x**-0.2)[None]
    complete = Curve(values, None, None, irreducible)
    fewer = Curve(values[:, 1:], None, None, irreducible)

    assert complete.without_largest(x) is not None
    assert fewer.without_largest(x[1:]) is None


def test_losses_of_a_resample_stay_above_zero() -> None:
    sizes = np.array([1e6, 1e7, 1e8])
    noisy = Curve(np.array([[0.3, 0.2, 0.1]]), np.array([[[0.4, -0.4]] * 3]), None, irreducible=False)

    exponents, predictions = noisy.resampled(sizes, 20)

    assert np.isfinite(exponents).all()
    assert (predictions > 0).all()
