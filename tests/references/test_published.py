import re
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from statistics import fmean

import pytest
from bundled_tasks import LIBRARY, bundled_task

from icl_eval.errors import UnknownName
from icl_eval.metrics import METRICS
from icl_eval.metrics import metric as metric_of
from icl_eval.references import Published, published, published_metrics, reference_names
from icl_eval.tasks.library import bundled

H1 = "arXiv:2005.14165v4 Table H.1 (p. 63)"
TABLE_3_8 = "arXiv:2005.14165v4 Table 3.8"
SIZES = [f"GPT-3 {size}" for size in ["125M", "350M", "760M", "1.3B", "2.7B", "6.7B", "13B", "175B"]]
EIGHT = ["BoolQ", "CB", "COPA", "MultiRC", "ReCoRD", "RTE", "WiC", "WSC"]
WRITTEN = [*((f"gpt3:{task}", "squad_em") for task in ("BoolQ", "CB", "RTE", "WiC")), ("gpt3:WSC", "referent_match")]
TWO_METRICS = {
    "CB": ("accuracy", "macro_f1"),
    "MultiRC": ("group_exact_match", "f1a"),
    "ReCoRD": ("record_em", "record_f1"),
}


def values(reference: str, metric: str, shots: int | None, split: str = "dev") -> dict[str, float]:
    """System -> value of GPT-3's sizes and the fine-tuned systems of its tables on one split."""
    return {each.system: each.value for each in tables(reference, metric, shots) if each.split == split}


def tables(reference: str, metric: str, shots: int | None = None) -> list[Published]:
    """Only what stands in the paper's two tables of results."""
    return [each for each in published(reference, metric, shots) if each.source.startswith((H1, TABLE_3_8))]


def declared() -> list[tuple[str, list[str], str]]:
    """File, metrics and reference of every bundled task and suite that has one."""
    found = []
    for name, path in LIBRARY.files.items():
        if LIBRARY.is_suite(name):
            metrics, reference = ["average"], LIBRARY.suite(name).reference
        else:
            task = bundled_task(name).definition
            metrics, reference = task.metrics, task.reference
        if reference is not None:
            found.append((path.name, metrics, reference))
    return found


@pytest.mark.parametrize(
    ("reference", "metric", "shots", "expected"),
    [
        ("gpt3:RTE", "accuracy", 0, [0.477, 0.498, 0.484, 0.56, 0.466, 0.552, 0.628, 0.635]),
        ("gpt3:RTE", "accuracy", 32, [0.523, 0.484, 0.469, 0.509, 0.563, 0.495, 0.606, 0.729]),
        ("gpt3:CB", "accuracy", 1, [0.554, 0.536, 0.536, 0.482, 0.571, 0.339, 0.554, 0.643]),
        ("gpt3:CB", "macro_f1", 32, [0.261, 0.404, 0.326, 0.483, 0.457, 0.446, 0.46, 0.572]),
        ("gpt3:COPA", "accuracy", 32, [0.67, 0.64, 0.72, 0.77, 0.83, 0.83, 0.86, 0.92]),
        ("gpt3:WSC", "accuracy", 0, [0.596, 0.567, 0.654, 0.615, 0.663, 0.606, 0.644, 0.654]),
        ("gpt3:WiC", "accuracy", 32, [0.498, 0.55, 0.53, 0.53, 0.516, 0.531, 0.511, 0.553]),
        ("gpt3:MultiRC", "group_exact_match", 32, [0.0609, 0.118, 0.168, 0.208, 0.247, 0.238, 0.25, 0.325]),
        ("gpt3:MultiRC", "f1a", 0, [0.57, 0.597, 0.604, 0.599, 0.6, 0.645, 0.714, 0.729]),
        ("gpt3:ReCoRD", "record_em", 0, [0.708, 0.785, 0.821, 0.841, 0.862, 0.886, 0.89, 0.902]),
        ("gpt3:ReCoRD", "record_f1", 32, [0.707, 0.779, 0.821, 0.84, 0.875, 0.888, 0.898, 0.901]),
        ("gpt3:SuperGLUE", "average", 32, [0.502, 0.562, 0.568, 0.6, 0.643, 0.636, 0.669, 0.732]),
    ],
)
def test_figures_are_those_of_table_h1(reference: str, metric: str, shots: int, expected: list[float]) -> None:
    actual = values(reference, metric, shots)

    assert dict(zip(SIZES, expected, strict=True)) == actual


@pytest.mark.parametrize(
    ("row", "metric", "zero_one_and_few_shot"),
    [
        ("HellaSwag", "accuracy", [0.789, 0.781, 0.793]),
        ("LAMBADA", "greedy_accuracy", [0.762, 0.725, 0.864]),
        ("LAMBADA", "perplexity", [3.0, 3.35, 1.92]),
        ("NQs", "squad_em", [0.146, 0.23, 0.299]),
        ("TriviaQA", "squad_em", [0.643, 0.68, 0.712]),
        ("WebQs", "squad_em", [0.144, 0.253, 0.415]),
        ("Ro-En16", "BLEU-mb", [19.9, 38.6, 39.5]),
        ("PIQA", "accuracy", [0.81, 0.805, 0.823]),
        ("ANLI-R3", "accuracy", [0.345, 0.351, 0.402]),
        ("5D+", "exact_match", [0.0065, 0.0345, 0.093]),
        ("1DC", "exact_match", [0.0975, 0.143, 0.213]),
        ("SATAnalogies", "accuracy", [0.537, 0.591, 0.652]),
    ],
)
def test_largest_model_has_the_figures_of_the_paper(row: str, metric: str, zero_one_and_few_shot: list[float]) -> None:
    figures = [each for each in published(f"gpt3:{row}", metric) if each.system == "GPT-3 175B"]

    assert zero_one_and_few_shot == [each.value for each in figures[:3]]


def test_row_reads_sizes_then_test_server_then_fine_tuned_systems() -> None:
    row = tables("gpt3:RTE", "accuracy", shots=32)

    assert row == published("gpt3:RTE", "accuracy", shots=32)[: len(row)]
    assert [*SIZES, "GPT-3 175B", "fine-tuned BERT-Large", "fine-tuned SOTA"] == [each.system for each in row]
    assert [
        Published("GPT-3 175B", 0.729, 32, "dev", H1),
        Published("GPT-3 175B", 0.69, 32, "test", H1),
        Published("fine-tuned BERT-Large", 0.717, None, "test", "arXiv:2005.14165v4 Table 3.8"),
        Published("fine-tuned SOTA", 0.925, None, "test", "arXiv:2005.14165v4 Table 3.8"),
    ] == row[-4:]


@pytest.mark.parametrize(
    ("task", "metric", "gpt3", "bert", "sota"),
    [
        ("SuperGLUE", "average", 0.718, 0.69, 0.89),
        ("BoolQ", "accuracy", 0.764, 0.774, 0.91),
        ("CB", "accuracy", 0.756, 0.836, 0.969),
        ("CB", "macro_f1", 0.52, 0.757, 0.939),
        ("COPA", "accuracy", 0.92, 0.706, 0.948),
        ("WiC", "accuracy", 0.494, 0.696, 0.761),
        ("WSC", "accuracy", 0.801, 0.646, 0.938),
        ("MultiRC", "group_exact_match", 0.305, 0.241, 0.623),
        ("MultiRC", "f1a", 0.754, 0.7, 0.882),
        ("ReCoRD", "record_em", 0.902, 0.713, 0.925),
        ("ReCoRD", "record_f1", 0.911, 0.72, 0.933),
    ],
)
def test_figures_of_the_test_server_are_those_of_table_3_8(
    task: str, metric: str, gpt3: float, bert: float, sota: float
) -> None:
    expected = {"GPT-3 175B": gpt3, "fine-tuned BERT-Large": bert, "fine-tuned SOTA": sota}

    assert expected == values(f"gpt3:{task}", metric, 32, "test")


@pytest.mark.parametrize("shots", [0, 1, 32])
def test_superglue_average_is_the_mean_of_its_eight_tasks(shots: int) -> None:
    rows = [values(f"gpt3:{task}", "average" if task in TWO_METRICS else "accuracy", shots) for task in EIGHT]
    recomputed = {system: fmean(row[system] for row in rows) for system in SIZES}

    assert values("gpt3:SuperGLUE", "average", shots) == pytest.approx(recomputed, abs=0.0006)


def test_superglue_average_on_the_test_server_is_the_mean_of_its_eight_tasks() -> None:
    rows = [values(f"gpt3:{task}", "average" if task in TWO_METRICS else "accuracy", 32, "test") for task in EIGHT]
    recomputed = {system: fmean(row[system] for row in rows) for system in rows[0]}

    assert values("gpt3:SuperGLUE", "average", 32, "test") == pytest.approx(recomputed, abs=0.0006)


@pytest.mark.parametrize("task", TWO_METRICS)
def test_average_of_a_task_is_the_mean_of_its_two_metrics(task: str) -> None:
    first, second = (tables(f"gpt3:{task}", metric) for metric in TWO_METRICS[task])
    average = published(f"gpt3:{task}", "average")

    assert [fmean([one.value, other.value]) for one, other in zip(first, second, strict=True)] == pytest.approx(
        [each.value for each in average]
    )
    assert [(each.system, each.shots, each.split) for each in first] == [
        (each.system, each.shots, each.split) for each in average
    ]
    assert average[0].source == f"{H1}, mean of its two metrics"


def test_average_of_multirc_is_computed_by_hand() -> None:
    assert values("gpt3:MultiRC", "average", 32)["GPT-3 175B"] == 0.5365  # (32.5 + 74.8) / 2


@pytest.mark.parametrize(("shots", "kept"), [(0, {0}), (1, {1}), (2, {32}), (32, {32}), (64, {32}), (None, {0, 1, 32})])
def test_shots_keep_the_setting_of_their_kind_and_the_fine_tuned_systems(shots: int | None, kept: set[int]) -> None:
    row = tables("gpt3:BoolQ", "accuracy", shots)

    assert kept | {None} == {each.shots for each in row}
    assert len([each for each in row if each.split == "dev"]) == len(SIZES) * len(kept)


def test_few_shot_numbers_carry_the_number_of_shots_of_the_paper() -> None:
    assert {70, None} == {each.shots for each in published("gpt3:StoryCloze", "accuracy", shots=5)}


def test_perplexity_and_bleu_stay_as_printed() -> None:
    assert values("gpt3:LAMBADA", "perplexity", 15, "test")["GPT-3 175B"] == 1.92
    assert values("gpt3:Fr-En14", "bleu:tokenize=intl", 64, "test")["GPT-3 175B"] == 41.4
    assert values("gpt3:DROP", "drop_f1", 20)["GPT-3 175B"] == 0.365


def test_figures_lie_within_the_bounds_of_their_metric() -> None:
    for reference in reference_names():
        for metric in published_metrics(reference):
            low, high = {"average": (0, 1), "BLEU-mb": (0, 100)}.get(metric) or metric_of(metric).bounds
            assert all(low <= each.value <= high for each in published(reference, metric)), (reference, metric)


def test_there_are_the_63_rows_of_table_h1() -> None:
    metrics = ["BLEU-mb", "bleu:tokenize=intl", *METRICS]
    rows = [(name, metric) for name in reference_names() for metric in metrics if tables(name, metric)]
    rows = [row for row in rows if row not in WRITTEN]

    assert len([*rows, ("gpt3:SuperGLUE", "average")]) == 63
    assert all(len(values(*row, 1, published(*row)[0].split)) >= len(SIZES) for row in rows)


def test_different_metrics_of_one_name_are_kept_apart() -> None:
    """MultiRC's acc counts questions, ReCoRD's compares texts, and an F1 of words is no F1 of classes."""
    assert published("gpt3:MultiRC", "accuracy") == []
    assert published("gpt3:ReCoRD", "accuracy") == []
    assert published("gpt3:CoQA", "macro_f1") == []


def test_reference_of_every_bundled_file_has_figures() -> None:
    texts = [path.read_text("utf-8") for path in (bundled() / "tasks").rglob("*.yaml")]
    stated = {each for text in texts for each in re.findall(r'^reference: "?([^"\s]+)', text, re.MULTILINE)} - {"null"}
    found = declared()

    assert len(stated) > 50
    assert stated == {reference for *_, reference in found}
    for file, metrics, reference in found:
        assert bool(published(reference, metrics[0])) == (not reference.startswith("superglue:")), file


@pytest.mark.parametrize(
    ("reference", "metric", "system", "source", "expected"),
    [
        ("gpt3:PTB", "word_perplexity", "GPT-3 175B", "arXiv:2005.14165v4 section 3.1.1", {20.5}),
        ("gpt3:PTB", "word_perplexity", "GPT-2 1.5B", "Radford et al. 2019, Table 3", {35.76}),
        ("gpt3:LAMBADA", "perplexity", "GPT-2 117M", "Radford et al. 2019, Table 3", {35.13}),
        ("gpt3:LAMBADA", "greedy_accuracy", "GPT-2 1.5B", "Radford et al. 2019, section 3.3", {0.5266}),
        ("gpt2:WikiText-2", "word_perplexity", "GPT-2 345M", "Radford et al. 2019, Table 3", {22.76}),
        ("gpt2:enwik8", "bits_per_byte", "GPT-2 1.5B", "Radford et al. 2019, Table 3", {0.93}),
        ("gpt3:HellaSwag", "accuracy", "GPT-Neo 2.7B", "EleutherAI/gpt-neo README", {0.4273}),
        ("gpt3:HellaSwag", "accuracy", "GPT-J 6B", "kingoflolz/mesh-transformer-jax README", {0.661}),
        ("gpt3:ARC-Easy", "accuracy", "OPT 125M", "EleutherAI/pythia:evals/opt/opt-125m.json", {0.4352, 0.3998}),
        ("gpt3:CoQA", "coqa_f1", "BLOOM 7.1B", "EleutherAI/lm-evaluation-harness@afbf8e663", {0.6883}),
        ("gpt3:Winogrande", "accuracy", "Pythia 6.9B", "OLMES paper, Table 4", {0.623}),
        ("gpt3:NQs", "squad_em", "fine-tuned T5-11B (closed-book)", "arXiv:2005.14165v4 Table 3.3", {0.345}),
        ("gpt3:De-En16", "BLEU-mb", "unsupervised MASS", "arXiv:2005.14165v4 Table 3.4", {35.2}),
    ],
)
def test_figures_of_others_are_those_of_their_source(
    reference: str, metric: str, system: str, source: str, expected: set[float]
) -> None:
    figures = [each for each in published(reference, metric) if each.system == system]

    assert {each.value for each in figures if each.source.startswith(source)} == expected


def test_figures_by_another_protocol_say_so() -> None:
    for reference in reference_names():
        for metric in published_metrics(reference):
            for each in published(reference, metric):
                paper = "arXiv:2005.14165v4" if reference.startswith("gpt3:") else "Radford et al. 2019"
                has_same_protocol = each.source.startswith(paper) or each.system == "SOTA before GPT-2"
                assert (each.protocol is None) == has_same_protocol, each


def test_normalised_accuracy_of_other_harnesses_is_distinguished_from_the_plain_one() -> None:
    piqa = {each.protocol: each.value for each in published("gpt3:PIQA", "accuracy", 0) if each.system == "OPT 66B"}

    assert set(piqa) == {"lm-eval", "lm-eval, acc_norm"}
    assert len(set(piqa.values())) == 2


def test_metrics_of_the_paper_come_first() -> None:
    assert published_metrics("gpt3:DROP") == ["drop_f1", "drop_em"]
    assert published_metrics("gpt3:Fr-En14") == ["BLEU-mb", "bleu:tokenize=intl", "bleu"]
    assert published_metrics("gpt3:LAMBADA") == ["greedy_accuracy", "perplexity"]


@pytest.mark.parametrize(("reference", "metric"), WRITTEN)
def test_generative_superglue_has_the_papers_accuracy_beside_it(reference: str, metric: str) -> None:
    found = published(reference, metric, 0)

    assert found == [each for each in published(reference, "accuracy", 0) if each.protocol is None]
    assert metric not in published_metrics(reference)


def test_diagnostics_have_a_name_and_no_figures() -> None:
    assert published("superglue:AX-b", "matthews_correlation") == []
    assert published("superglue:AX-g", "gender_parity", shots=32) == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gpt3:RTEE", "no row of published numbers in gpt3 is named 'RTEE'; did you mean RTE"),
        ("gpt3:multirc", "did you mean MultiRC"),
        ("superglue:RTE", "choose from AX-b, AX-g"),
        ("gpt4:RTE", "no source of published numbers is named 'gpt4'; did you mean gpt3 or gpt2?"),
        ("RTE", "choose from gpt2, gpt3, superglue"),
    ],
)
def test_unknown_reference_is_answered_with_the_nearest(reference: str, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        published(reference, "accuracy")

    assert message in str(caught.value)


def test_names_are_valid_and_distinct() -> None:
    names = reference_names()

    assert len(set(names)) == len(names)
    assert [published(name, "accuracy", 0) for name in names]
    assert {"gpt3:RTE", "gpt3:SuperGLUE", "superglue:AX-b"} < set(names)


def test_caller_cannot_change_what_others_see() -> None:
    published("gpt3:RTE", "accuracy").clear()
    reference_names().clear()

    assert published("gpt3:RTE", "accuracy")
    assert reference_names()


def test_figures_are_not_read_before_they_are_needed() -> None:
    script = """
import sys
import icl_eval.references

print(sys.modules["icl_eval.references.published"]._rows.cache_info().currsize, "torch" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "False"]


def test_figures_are_small_enough_to_ship() -> None:
    folder = Path(sys.modules["icl_eval.references"].__path__[0])

    assert sum(path.stat().st_size for path in folder.glob("*.json")) < 100_000


def test_published_is_a_value() -> None:
    first, again = (published("gpt3:RTE", "accuracy", 0)[0] for _ in range(2))

    assert astuple(first) == ("GPT-3 125M", 0.477, 0, "dev", H1, None)
    assert hash(first) == hash(again)
