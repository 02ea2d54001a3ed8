from __future__ import annotations

import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from standard_records import write_standard_release
from toy_tasks import ASKED, CHATTY, NAMES, PROMPT, SHOWN, answers, knowing, parity, records, write_library
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_eval import IclEvalError, Library, Task, evaluate, rescore
from icl_eval.errors import (
    DataError,
    MetricError,
    ModelError,
    PromptError,
    RunError,
    TaskError,
    UnknownName,
    WindowError,
)
from icl_eval.testing import FakeLM
from icl_eval.tiny import MODEL

from .folders import examples, journal, manifest

KINDS = ["Abbreviation", "Entity", "Description", "Person", "Location", "Number"]  # of answers, in TREC


def test_known_answers_give_the_predicted_accuracy() -> None:
    result = evaluate(knowing(0, 3, 5), parity(), shots=0)

    assert len(result) == 1
    assert result.score("parity").value == 3 / 8
    assert result.score("parity").standard_error == pytest.approx(math.sqrt(3 / 8 * 5 / 8 / 7))
    assert (result.score("parity").random, result.score("parity").majority) == (0.5, 0.5)


def test_demonstrations_can_change_the_answers() -> None:
    lm = FakeLM(answers([0, 1]) | answers(range(6), after="\n\n"))
    result = evaluate(lm, parity(), shots=[0, 1, 4])

    assert [(line.shots, line.value) for line in result] == [(0, 2 / 8), (1, 6 / 8), (4, 6 / 8)]


def test_grid_is_every_number_of_shots_by_every_seed(tmp_path: Path) -> None:
    result = evaluate(knowing(0), parity(), shots=[4, 0, 1], seeds=3, out=tmp_path)

    cells = dict.fromkeys((e["cell"]["shots"], e["cell"]["seed"]) for e in examples(tmp_path))
    assert {(0, 0), (1, 0), (1, 1), (1, 2), (4, 0), (4, 1), (4, 2)} == set(cells)
    assert [(line.shots, line.seeds) for line in result] == [(0, (0,)), (1, (0, 1, 2)), (4, (0, 1, 2))]
    assert len(examples(tmp_path)) == 7 * 8


def test_without_demonstrations_only_the_first_seed_is_evaluated() -> None:
    result = evaluate(knowing(0), parity(), shots=0, seeds=[7, 3])

    assert result.score("parity").seeds == (7,)
    assert result.score("parity").seed_sd is None


def test_smaller_draws_begin_the_larger_ones(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[1, 2, 5], seeds=2, out=tmp_path)

    drawn = {(e["id"], e["cell"]["seed"], e["cell"]["shots"]): e["demonstrations"] for e in examples(tmp_path)}
    for (name, seed, shots), demonstrations in drawn.items():
        assert drawn[name, seed, 5][:shots] == demonstrations
    assert len({tuple(each) for each in drawn.values()}) > 20


def test_seeds_draw_other_demonstrations_and_their_spread_is_reported(tmp_path: Path) -> None:
    lm = FakeLM(answers([]) | answers(ASKED, after="odd\n\n"))  # right where the last demonstration is odd
    result = evaluate(lm, parity(), shots=3, seeds=5, out=tmp_path)

    of_seed: dict[int, list[int]] = {}
    for each in examples(tmp_path):
        of_seed.setdefault(each["cell"]["seed"], []).append(int(each["demonstrations"][-1]) % 2)
    expected = [mean(values) for values in of_seed.values()]
    line = result.score("parity")
    assert line.seed_values == pytest.approx(expected)
    assert line.value == pytest.approx(mean(expected))
    assert line.seed_sd == pytest.approx(stdev(expected))
    assert stdev(expected) > 0


def test_demonstrations_do_not_depend_on_limit_or_on_what_else_is_evaluated(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=[2], seeds=[1], limit=3, out=tmp_path / "few")
    evaluate(knowing(0), [parity(), _second()], shots=[0, 2, 6], seeds=[0, 1], out=tmp_path / "many")

    many = {str((e["cell"], e["id"])): e["demonstrations"] for e in examples(tmp_path / "many")}
    few = {str((e["cell"], e["id"])): e["demonstrations"] for e in examples(tmp_path / "few")}
    assert len(few) == 3
    assert few == {key: many[key] for key in few}


def test_no_example_is_among_its_demonstrations_when_there_is_no_other_split(tmp_path: Path) -> None:
    task = Task.from_records("alone", evaluation=records(range(6)), prompt=PROMPT, options=NAMES, id="id")
    evaluate(knowing(0), task, shots=5, seeds=3, out=tmp_path)

    assert len(examples(tmp_path)) == 18
    for each in examples(tmp_path):
        assert sorted([*each["demonstrations"], each["id"]]) == list("012345")


def test_several_prompts_are_separate_lines() -> None:
    task = parity(prompt={"plain": PROMPT, "chatty": CHATTY})
    lm = FakeLM(answers([0]) | answers([0, 1, 2], after="Even or odd?\n\n"))
    result = evaluate(lm, task, shots=0, prompts=["chatty", "plain"])

    assert [(line.prompt, line.value) for line in result] == [
        ("chatty", 3 / 8),
        ("plain", 1 / 8),
        ("mean of 2 prompts", 2 / 8),
    ]
    assert "prompt" in result.table().splitlines()[2]


@pytest.fixture
def with_zero_shot_prompt(tmp_path: Path) -> Path:
    """The toy library, of which `toy/parity` is `chatty` without demonstrations."""
    root = write_library(tmp_path)
    for name, prompt in (("parity", "chatty"), ("pairs", "null")):
        with (root / f"tasks/toy/{name}.yaml").open("a") as file:
            file.write(f"zero_shot_prompt: {prompt}\n")
    return root


def test_without_demonstrations_a_task_may_have_another_prompt(with_zero_shot_prompt: Path) -> None:
    root = with_zero_shot_prompt
    lm = FakeLM(answers([0]) | answers([0, 1, 2], after="Even or odd?\n\n"))
    result = evaluate(lm, "toy", shots=[4, 0, 1], seeds=2, data=root / "data", library=Library([root]))

    parity = [(line.prompt, line.shots, line.seeds) for line in result if line.task == "toy/parity"]
    assert parity == [("chatty", 0, (0,)), ("plain", 1, (0, 1)), ("plain", 4, (0, 1))]
    assert result.score("toy/parity", shots=0).value == 3 / 8
    assert "|chatty|k0|" in result.score("toy/parity", shots=0).signature
    assert {line.prompt for line in result if line.task == "toy/pairs"} == {"plain"}
    averages = [line for line in result if line.task == "toy"]
    assert [(line.prompt, line.shots) for line in averages] == [("mixed", 0), ("plain", 1), ("plain", 4)]
    assert averages[0].value == pytest.approx((3 / 8 + 1 / 8) / 2)


def test_a_prompt_that_is_requested_is_used_without_demonstrations_too(with_zero_shot_prompt: Path) -> None:
    root = with_zero_shot_prompt
    options = {"shots": [0, 1], "data": root / "data", "library": Library([root])}
    result = evaluate(knowing(0), "toy/parity", prompts="plain", **options)  # type: ignore[arg-type]

    assert [(line.prompt, line.shots) for line in result] == [("plain", 0), ("plain", 1)]


def test_a_prompt_or_task_named_twice_is_evaluated_once() -> None:
    result = evaluate(knowing(0), [task := parity(), task], shots=0, prompts=["inline", "inline"])

    assert len(result) == 1


def test_options_of_one_example_share_their_demonstrations_in_a_small_window(tmp_path: Path) -> None:
    lengths = {"short": " a", "long": " " + "b" * 60}
    task = Task.from_records(
        "uneven",
        evaluation=records(ASKED),
        demonstrations=records(SHOWN),
        prompt="{% block query %}Q: {{ n }}\nA:{% endblock %}{% block answer %}{{ option }}{% endblock %}",
        options=list(lengths.values()),
        id="id",
    )
    lm = _Recorder(window=160)
    evaluate(lm, task, shots=8, seeds=2, out=tmp_path)

    found = examples(tmp_path)
    assert {len(e["demonstrations"]) for e in found} <= {1, 2, 3, 4, 5}
    assert all(e["shots"] == len(e["demonstrations"]) for e in found)
    contexts = [context for context in lm.contexts if context.startswith("Q: 1")]  # begins with a demonstration
    assert len(set(contexts)) > 8
    assert len(contexts) == 2 * len(set(contexts))  # each is a context of both options


def test_effective_shots_and_shortened_prompts_are_reported(tmp_path: Path) -> None:
    result = evaluate(FakeLM(window=60), parity(), shots=[1, 6], out=tmp_path)

    fitted = [e["shots"] for e in examples(tmp_path) if e["cell"]["shots"] == 6]
    few, many = result
    assert (few.effective_shots, few.shortened) == (1.0, 0)
    assert (many.effective_shots, many.shortened) == (mean(fitted), sum(shots < 6 for shots in fitted))
    assert 1 < mean(fitted) < 6
    assert f"effective {mean(fitted):.1f})" in result.table(signatures=True)
    assert "8 prompts have fewer demonstrations than requested, because the context length is 60 tokens" in str(result)


def test_whole_demonstrations_are_dropped_and_none_is_cut() -> None:
    lm = _Recorder(window=60)
    evaluate(lm, parity(), shots=6)

    for context in (text for text in lm.contexts if text != "Answer:"):
        blocks = context.split("\n\n")
        assert all(block in _SOLVED for block in blocks[:-1])
        assert blocks[-1] in {f"Q: {n}\nA:" for n in ASKED}


def test_overflow_error_refuses_to_drop_demonstrations() -> None:
    with pytest.raises(
        WindowError, match=r"^parity, example '0': 6 demonstrations take \d+ tokens, but the context length"
    ):
        evaluate(FakeLM(window=60), parity(), shots=6, overflow="error")


def test_a_query_that_does_not_fit_is_an_error_unless_truncation_was_requested() -> None:
    task = parity(prompt="Q: " + "x" * 50 + " {{ n }}\nA:")
    with pytest.raises(
        WindowError, match=r"parity, example '0': the query alone takes 62 tokens, but the context length is 40"
    ):
        evaluate(FakeLM(window=40), task, shots=0)
    result = evaluate(FakeLM(window=40), task, shots=0, overflow="truncate")

    assert result.score("parity").truncated == 8
    assert "8 queries were cut at the start" in result.table()
    assert evaluate(FakeLM(window=61), task, shots=0, overflow="truncate").score("parity").truncated == 8  # by a token


def test_truncation_keeps_the_end_of_the_query() -> None:
    lm = _Recorder(window=40)
    evaluate(lm, parity(prompt="Q: " + "x" * 50 + " {{ n }}\nA:"), shots=0, limit=1, overflow="truncate")

    assert {text for text in lm.contexts if text != "Answer:"} == {"x" * 31 + " 0\nA:"}


def test_limit_keeps_whole_groups() -> None:
    pairs = [{"n": n, "pair": f"p{n // 3}", "label": n % 2} for n in range(9)]
    task = Task.from_records(
        "groups",
        evaluation=pairs,
        prompt=PROMPT,
        options=NAMES,
        cluster="pair",
        group="pair",
        metrics=["accuracy", "group_exact_match"],
    )
    lm = FakeLM(answers([0, 1, 2, 3], range(9)))
    for limit in (2, "2", "first:2"):
        accuracy, exact_match = evaluate(lm, task, shots=0, limit=limit)
        assert (accuracy.units, exact_match.units, accuracy.examples, accuracy.total_examples) == (6, 2, 6, 9)

    assert (accuracy.value, exact_match.value) == (4 / 6, 1 / 2)


def test_ties_are_counted_and_the_first_option_is_taken() -> None:
    task = parity(options=["same", "same"], prompt="{{ n }}{% if n < 3 %} {% endif %}:")
    line = evaluate(FakeLM(), task, shots=0).score("parity")

    assert (line.ties, line.value) == (8, 0.5)
    assert "8 answers had several best options" in evaluate(FakeLM(), task, shots=0).table()


def test_progress_is_reported_of_every_request() -> None:
    totals: list[int] = []
    ticks: list[int] = []

    def progress(total: int) -> Any:
        totals.append(total)
        return ticks.append

    evaluate(knowing(0), parity(), shots=[0, 2], seeds=2, progress=progress)

    assert totals == [3 * 8 * 2 * 2]
    assert sum(ticks) == totals[0]


def test_answers_do_not_depend_on_being_kept(tmp_path: Path) -> None:
    kept = evaluate(knowing(0, 1), parity(), shots=[0, 2], out=tmp_path)
    forgotten = evaluate(knowing(0, 1), parity(), shots=[0, 2])

    assert kept.scores == forgotten.scores
    assert (kept.folder, forgotten.folder) == (tmp_path, None)


def test_two_runs_write_identical_scores_and_examples(tmp_path: Path) -> None:
    for name in ("one", "other"):
        evaluate(knowing(0, 1), [parity(), _second()], shots=[0, 3], seeds=2, out=tmp_path / name)

    for file in ("scores.json", "examples.jsonl", "answers.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_question_that_occurs_twice_is_computed_once(tmp_path: Path) -> None:
    lm = knowing(0)
    evaluate(lm, parity(), shots=0, out=tmp_path)

    assert lm.answered == len(journal(tmp_path)) == 8 * 2 + 2  # and each option once after the answer context
    assert (manifest(tmp_path)["computed"], manifest(tmp_path)["reused"]) == (18, 0)


def test_default_folder_is_named_after_what_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = evaluate(lm := knowing(0), parity(), shots=0, keep=True)
    again = evaluate(lm, parity(), shots=0, keep=True)
    other = evaluate(lm, parity(), shots=1, keep=True)

    assert first.folder == again.folder != other.folder
    assert str(first.folder).startswith("results/parity-fake-")


def test_suite_average_counts_a_task_with_two_metrics_once(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    with (root / "tasks/toy/pairs.yaml").open("a") as file:
        file.write("primary: [accuracy, group_exact_match]\n")
    lm = knowing(0, 1, 2, 5, 6)
    result = evaluate(lm, "toy", shots=0, data=root / "data", library=Library([root]))

    right = [1, 1, 1, 0, 0, 1, 1, 0]
    of_pair = [mean([mean(pair), float(all(pair))]) for pair in zip(right[::2], right[1::2], strict=True)]
    errors = stdev(right) / math.sqrt(8), stdev(of_pair) / math.sqrt(4)
    line = result.score("toy")
    assert [(each.task, each.metric) for each in result] == [
        ("toy/parity", "accuracy"),
        ("toy/pairs", "accuracy"),
        ("toy/pairs", "group_exact_match"),
        ("toy", "average"),
    ]
    assert line.value == pytest.approx((5 / 8 + mean(of_pair)) / 2)
    assert line.standard_error == pytest.approx(math.hypot(*errors) / 2)
    assert line.random == pytest.approx((0.5 + (0.5 + 0.25) / 2) / 2, abs=0.01)
    assert (line.examples, line.data) == (16, "local")


def test_a_suite_average_has_the_spread_of_its_values_by_seed(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    lm = FakeLM(answers([]) | answers(ASKED, after="odd\n\n"))
    result = evaluate(lm, "toy", shots=2, seeds=4, data=root / "data", library=Library([root]))

    one, *two = (line.seed_values for line in result if line.task != "toy")
    expected = [mean([a, b]) for a, b, _ in zip(one, *two, strict=True)]
    assert result.score("toy").seed_values == pytest.approx(expected)
    assert result.score("toy").seed_sd == pytest.approx(stdev(expected))
    assert stdev(expected) > 0


def test_suite_average_spans_tasks_with_and_without_demonstrations(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    with (root / "tasks/toy/pairs.yaml").open("a") as file:
        file.write("protocol: {shots: 0}\n")
    line = evaluate(knowing(0, 1), "toy", seeds=3, data=root / "data", library=Library([root])).score("toy")

    assert (line.seeds, line.shots) == ((0, 1, 2), 2)
    assert line.value == pytest.approx((1 / 4 + 1 / 4) / 2)


def test_an_undefined_figure_is_null_in_the_files(tmp_path: Path) -> None:
    result = evaluate(knowing(0), parity(queries=[0]), shots=0, out=tmp_path)

    assert math.isnan(result.score("parity").standard_error)
    assert '"standard_error": null' in (tmp_path / "scores.json").read_text()
    assert '"standard_error": null' in result.table("json")
    assert "1.000 ± unknown (0 shots)" in result.table(signatures=True)


def test_the_query_may_differ_between_options_while_the_continuation_is_the_same(tmp_path: Path) -> None:
    task = parity(
        prompt="{% block query %}{{ n }} is {{ option }}{% endblock %}{% block answer %}, yes.{% endblock %}",
    )
    lm = FakeLM({f"{n} is {NAMES[n % 2]}": ", yes." for n in range(5)})
    result = evaluate(lm, task, shots=0, out=tmp_path)

    assert result.score("parity").value == 7 / 8  # of those it does not know, it takes 5 and 7 for odd, and 6 too
    assert {option["text"] for e in examples(tmp_path) for option in e["options"]} == {", yes."}


def test_a_loaded_pair_takes_the_rules_that_do_not_depend_on_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def wrap(*pair: Any, **options: Any) -> FakeLM:
        seen.update(options, pair=pair)
        return knowing(0)

    monkeypatch.setattr("icl_eval.runs.model.wrap_model", wrap)
    result = evaluate(("network", "tokenizer"), parity(), shots=0, bos=True, max_length=77)

    assert seen == {"pair": ("network", "tokenizer"), "bos": True, "max_length": 77, "pll": "l2r"}
    assert result.manifest.config.model == "str"  # a real one's `name_or_path`, or else its class
    with pytest.raises(RunError, match="`dtype` has no effect"):
        evaluate(("network", "tokenizer"), parity(), shots=0, dtype="float16")


def test_a_path_to_a_model_is_as_good_as_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"this directory is not a checkpoint: it has no config\.json"):
        evaluate(tmp_path, parity(), shots=0)


def test_bos_is_in_the_signature() -> None:
    (without,), (with_bos,) = (evaluate(FakeLM(bos=bos), parity(), shots=0) for bos in (False, True))

    assert "|bos0|" in without.signature
    assert "|bos1|" in with_bos.signature


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"tasks": []}, RunError, "`tasks`"),
        ({"shots": [1, -1]}, RunError, "`shots`, value -1: Input should be greater than or equal to 0"),
        ({"seeds": 0}, RunError, "give a positive number"),
        ({"seeds": [1, 1]}, RunError, "without repetitions"),
        ({"seeds": "12"}, RunError, "`seeds`: Input should be a valid tuple"),
        ({"limit": 0}, RunError, "`limit`"),
        ({"limit": "first:"}, RunError, "`limit`: 'first:' is neither a number of examples, at least 1, nor first:N"),
        ({"overflow": "cut"}, RunError, "`overflow`"),
        ({"prompts": "inlin"}, UnknownName, "no prompt of parity is named 'inlin'; did you mean inline?"),
        (
            {"normalizations": "tokens"},
            UnknownName,
            "no normalisation or calibration is named 'tokens'; did you mean token?",
        ),
        ({"normalizations": ["sum", "chars"]}, UnknownName, "'chars'; did you mean char"),
        ({"shots": 13}, DataError, "parity: 13 demonstrations were requested, but there are 12 to draw from"),
        ({"dtype": "float16"}, RunError, "`dtype` has no effect on a model that is loaded already"),
        ({"max_length": 100}, RunError, "`max_length` has no effect"),
        ({"bos": True}, RunError, "`bos` has no effect"),
        ({"revision": "main"}, RunError, "`revision` has no effect"),
        ({"device": "cpu"}, RunError, "`device` has no effect"),
        ({"model": 5}, ModelError, "a int is not a model"),
        ({"tasks": "no/such"}, UnknownName, "no task or suite is named 'no/such'"),
    ],
)
def test_a_wrong_argument_is_one_sentence_before_the_model_runs(
    changes: dict[str, Any], kind: type[IclEvalError], sentence: str
) -> None:
    lm = knowing(0)
    with pytest.raises(kind) as error:
        evaluate(**_arguments(lm, changes))

    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert lm.answered == 0


def _arguments(lm: FakeLM, changes: dict[str, Any]) -> dict[str, Any]:
    return {"model": lm, "tasks": parity(), "shots": 0} | changes


def test_two_different_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(TaskError, match="two different tasks are named 'parity'"):
        evaluate(knowing(0), [parity(), parity(queries=range(4))], shots=0)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("acuracy", UnknownName, "no metric is named 'acuracy'; did you mean accuracy or greedy_accuracy?"),
        ("evaluate:f1", MetricError, "allow it with --trust-remote-code"),
    ],
)
def test_an_unknown_metric_is_found_before_the_model_runs(name: str, kind: type[IclEvalError], sentence: str) -> None:
    lm = knowing(0)
    with pytest.raises(kind, match=sentence.replace("?", r"\?")):
        evaluate(lm, parity(metrics=[name]), shots=0)

    assert lm.answered == 0


def test_a_metric_that_does_not_suit_the_data_is_an_error() -> None:
    with pytest.raises(MetricError, match="gender parity compares the examples of a pair"):
        evaluate(knowing(0), parity(metrics=["gender_parity"]), shots=0)


def test_result_finds_lines_and_names_what_there_is() -> None:
    result = evaluate(knowing(0), parity(), shots=[0, 1])

    assert result.score("parity", shots=1).shots == 1
    with pytest.raises(UnknownName, match="did you mean parity"):
        result.score("parityy")
    with pytest.raises(UnknownName, match="no number of shots of parity is named '2'; choose from 0, 1"):
        result.score("parity", shots=2)
    with pytest.raises(UnknownName, match="no metric of parity is named 'f1'; choose from accuracy"):
        result.score("parity", metric="f1")


_SOLVED = {f"Q: {n}\nA: {NAMES[n % 2]}" for n in SHOWN}


def _second() -> Task:
    return Task.from_records(
        "second", evaluation=records(ASKED), demonstrations=records(SHOWN), prompt="{{ n }}:", options=NAMES, id="id"
    )


class _Recorder(FakeLM):
    """A model that records the contexts of its requests."""

    def __init__(self, window: int) -> None:
        super().__init__(window=window)
        self.contexts: list[str] = []

    def score(self, requests: Any, sink: Any) -> None:
        self.contexts += [bytes(request.tokens[: request.boundary].tolist()).decode() for request in requests]
        super().score(requests, sink)


def test_another_split_stands_in_line_and_signature() -> None:
    default = evaluate(knowing(0), parity(), shots=[0, 2])
    lm = FakeLM(answers(SHOWN, queries=SHOWN))
    other = evaluate(lm, parity(), shots=[0, 2], split="demonstrations", fewshot_split="evaluation")

    assert [(line.split, line.fewshot_split) for line in default] == [("", ""), ("", "")]
    assert [(line.split, line.fewshot_split) for line in other] == [
        ("demonstrations", ""),
        ("demonstrations", "evaluation"),
    ]
    assert [line.total_examples for line in other] == [len(SHOWN), len(SHOWN)]
    assert other.score("parity", shots=0).value == 1
    zero, two = (line.signature for line in other)
    assert "|per_example|split:demonstrations|s0|" in zero
    assert "|per_example|split:demonstrations|fewshot_split:evaluation|s0|" in two
    assert not any(word in line.signature for line in default for word in ("split:", "fewshot_split:"))


def test_naming_the_default_splits_of_a_task_changes_nothing() -> None:
    expected = evaluate(knowing(0), parity(), shots=[0, 2])
    actual = evaluate(knowing(0), parity(), shots=[0, 2], split="evaluation", fewshot_split="demonstrations")

    assert actual.scores == expected.scores


def test_no_query_is_its_demonstration_when_both_come_from_one_split(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=7, fewshot_split="evaluation", out=tmp_path)

    for each in examples(tmp_path):
        assert sorted(each["demonstrations"]) == sorted({str(n) for n in ASKED} - {each["id"]})


def test_shared_split_has_one_demonstration_less_than_examples() -> None:
    with pytest.raises(DataError, match="8 demonstrations were requested, but there are 7 for the query"):
        evaluate(knowing(0), parity(), shots=8, fewshot_split="evaluation")


def test_run_on_other_splits_is_another_run(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=2, out=tmp_path)

    with pytest.raises(RunError, match="give another --out"):
        evaluate(knowing(0), parity(), shots=2, out=tmp_path, split="demonstrations")
    with pytest.raises(RunError, match="give another --out"):
        evaluate(knowing(0), parity(), shots=2, out=tmp_path, fewshot_split="evaluation")


def test_rescoring_remembers_the_splits(tmp_path: Path) -> None:
    expected = evaluate(knowing(0), parity(), shots=2, split="demonstrations", out=tmp_path)

    assert rescore(tmp_path).scores == expected.scores


def test_average_over_other_splits_says_so(tmp_path: Path) -> None:
    library = Library([write_library(tmp_path)])
    result = evaluate(knowing(0), "toy", shots=2, library=library, data=tmp_path / "data", fewshot_split="validation")

    assert {(line.split, line.fewshot_split) for line in result} == {("", "validation")}
    assert "|k2|fewshot_split:validation|s0|" in result.score("toy").signature


def test_a_demonstration_that_cannot_be_rendered_is_named() -> None:
    demonstrations: list[dict[str, Any]] = [{"id": 100, "n": 100, "label": 0}, {"id": 101, "n": None, "label": 1}]
    task = Task.from_records(
        "gap", evaluation=records([1]), demonstrations=demonstrations, prompt=PROMPT, options=NAMES, id="id"
    )
    with pytest.raises(PromptError) as caught:
        evaluate(knowing(), task, shots=2)

    assert "a value is null" in str(caught.value)
    assert str(caught.value).endswith(", in the demonstration '101' (gap, example '1')")


def test_trec_has_the_log_probabilities_that_transformers_gives_its_published_prompt(tmp_path: Path) -> None:
    evaluate("tiny", "classification/trec", data=write_standard_release(tmp_path), shots=1, draw="first", out=tmp_path)
    stored = next(each for each in examples(tmp_path) if each["gold"] == [4])
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    prompt = (
        "Classify the questions based on whether their answer type is a Number, Location, Person, Description, Entity, "
        "or Abbreviation.\n\nQuestion: What does SOS stand for?\nAnswer Type: Abbreviation\n\n"
        "Question: Where is the town's lighthouse?\nAnswer Type:"
    )
    begin = len(tokenizer(prompt).input_ids)

    for answer, option in zip(KINDS, stored["options"], strict=True):
        ids = torch.tensor([tokenizer(f"{prompt} {answer}").input_ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(dim=-1)
        expected = [float(logprobs[n - 1, ids[0, n]]) for n in range(begin, ids.shape[1])]
        assert option["logprobs"] == pytest.approx(expected, abs=1e-5)
