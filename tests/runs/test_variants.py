"""Labels and orders as axes of the grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_rows import Crowd

from icl_eval import Task, compare, evaluate, rescore
from icl_eval.errors import IclEvalError
from icl_eval.models.protocol import MIN_CHUNK_TOKENS
from icl_eval.testing import FakeLM

WORDS = ["low", "mid", "high"]
TRAIN = [{"n": f"t{index}", "text": f"word{index}", "label": index % 3} for index in range(9)]
QUERIES = [{"n": f"q{index}", "text": f"query{index}", "label": index % 3} for index in range(3)]


def task(**changes: Any) -> Task:
    given: dict[str, Any] = {"evaluation": QUERIES, "demonstrations": TRAIN, "options": WORDS, "id": "n"}
    return Task.from_records("levels", **(given | {"prompt": {"plain": "{{ text }} is"}} | changes))


def prompts_of(result: Any, prompt: str, shots: int) -> dict[str, str]:
    """The prompt of each example in a cell."""
    frame = result.examples(prompts=True)
    chosen = frame[(frame["prompt"] == prompt) & (frame["shots"] == shots)]
    return dict(zip(chosen["id"], chosen["prompt_text"], strict=True))


def test_every_combination_is_a_variant_where_it_is_a_difference() -> None:
    found = evaluate(FakeLM(), task(), shots=[0, 1, 2], labels=["gold", "random"], order=["drawn", "reversed"])

    scores = [score for score in found.scores if not score.variants]

    assert [(score.prompt, score.shots) for score in scores] == [
        ("plain", 0),
        ("plain", 1),
        ("plain", 2),
        ("plain~order=reversed", 2),
        ("plain~labels=random", 1),
        ("plain~labels=random", 2),
        ("plain~labels=random,order=reversed", 2),
    ]
    assert [score.draw for score in scores[-2:]] == [
        "per_example-labels:random",
        "per_example-reversed-labels:random",
    ]
    assert len({score.signature for score in scores}) == 7


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"labels": "random"}, 1),
        ({"labels": ["gold", "abstract"]}, 1),
        ({"order": ["drawn", "reversed"]}, 2),
        ({"order": "permutations:6"}, 2),
        ({"draw": "fixed"}, 1),
        ({"select": "knn"}, 1),
    ],
)
def test_an_option_of_demonstrations_without_enough_of_them(options: Any, least: int) -> None:
    (name,) = options
    with pytest.raises(IclEvalError, match=f"`{name}` has no effect: it needs {least} or more demonstrations"):
        evaluate(FakeLM(), task(), shots=least - 1, **options)

    assert evaluate(FakeLM(), task(), shots=[0, least], **options).scores


def test_two_words_for_the_same_rule_are_one_value() -> None:
    (score,) = evaluate(FakeLM(), task(), shots=2, labels=["corrupt:0.5", "corrupt:.50"]).scores

    assert (score.prompt, score.draw) == ("plain", "per_example-labels:corrupt:0.5")


def test_other_texts_of_options_need_no_demonstrations() -> None:
    (score,) = evaluate(FakeLM(), task(), shots=0, labels="abstract").scores

    assert score.draw == "per_example-labels:abstract"


def test_one_value_changes_the_plain_cells() -> None:
    (score,) = evaluate(FakeLM(), task(), shots=2, labels="flipped", order="reversed").scores

    assert (score.prompt, score.draw) == ("plain", "per_example-reversed-labels:flipped")


def test_only_the_labels_change(tmp_path: Path) -> None:
    found = evaluate(FakeLM(), task(), shots=4, labels=["gold", "flipped", "permuted"], out=tmp_path)
    plain, flipped, permuted = (
        prompts_of(found, prompt, 4) for prompt in ("plain", "plain~labels=flipped", "plain~labels=permuted")
    )

    following = {"low": "mid", "mid": "high", "high": "low"}
    assert len(plain) == 3
    for id, prompt in plain.items():
        *demonstrations, query = prompt.split("\n\n")
        changed = [" ".join([*words, following[last]]) for *words, last in map(str.split, demonstrations)]
        assert flipped[id] == permuted[id] == "\n\n".join([*changed, query])


def test_differences_from_the_plain_cells_stand_below_the_table() -> None:
    answers = {f"query{index} is": f" {WORDS[index]}" for index in range(3)} | {"high\n\nquery0 is": " mid"}
    found = evaluate(FakeLM(answers), task(ids=["t2"]), shots=[0, 1], labels=["gold", "flipped"])
    (changed,) = [score for score in found.scores if score.difference is not None]

    assert (changed.prompt, changed.baseline) == ("plain~labels=flipped", "plain")
    assert changed.difference == pytest.approx(1 / 3)  # the gold demonstration misleads the first query
    assert "levels accuracy, plain~labels=flipped minus plain: +0.333 ± 0.333 (1 shot)\n" in found.table()


def test_permuted_labels_move_the_right_answer_and_flipped_ones_do_not(tmp_path: Path) -> None:
    answers = {f"query{index} is": f" {WORDS[(index + 1) % 3]}" for index in range(3)}  # by the permuted labels
    found = evaluate(FakeLM(answers), task(), shots=1, labels=["gold", "flipped", "permuted"])

    assert [score.value for score in found.scores] == [0.0, 0.0, 1.0]


def test_abstract_words_replace_the_options_everywhere(tmp_path: Path) -> None:
    found = evaluate(
        FakeLM({"query0 is": " x", "query1 is": " y", "query2 is": " x"}),
        task(),
        shots=2,
        labels="abstract:x/y/z",
        out=tmp_path,
    )

    assert found.scores[0].value == pytest.approx(2 / 3)
    assert all(
        line.split()[-1] in "xyz" for text in prompts_of(found, "plain", 2).values() for line in text.split("\n\n")[:2]
    )


def test_an_order_shows_the_same_demonstrations(tmp_path: Path) -> None:
    found = evaluate(FakeLM(), task(), shots=[2, 3], order="permutations:6", out=tmp_path)
    frame = found.examples(prompts=True)
    by_cell = {(row.prompt, row.shots, row.id): str(row.prompt_text).split("\n\n")[:-1] for row in frame.itertuples()}

    assert {prompt for prompt, shots, _ in by_cell if shots == 3} == {
        "plain",
        *(f"plain~order=permutation:{index}of6" for index in range(1, 6)),
    }
    assert len({prompt for prompt, shots, _ in by_cell if shots == 2}) == 2
    for id in ("q0", "q1", "q2"):
        orders = [ids for (_, shots, query), ids in by_cell.items() if (shots, query) == (3, id)]
        assert len(set(map(tuple, orders))) == 6
        assert len({frozenset(each) for each in orders}) == 1


def test_selections_are_variants_with_all_other_changes() -> None:
    options: dict[str, Any] = {"select": ["random", "bm25", "knn"], "encoder": "tiny", "labels": ["gold", "flipped"]}
    found = evaluate(FakeLM(), task(), shots=[0, 2], seeds=2, order=["drawn", "reversed"], **options)
    scores = {score.prompt: score for score in found.scores if not score.variants and score.shots}
    encoder = scores["plain~select=knn"].draw.removeprefix("knn-")

    assert [(score.prompt, score.draw, len(score.seeds)) for score in scores.values()] == [
        ("plain", "per_example", 2),
        ("plain~order=reversed", "per_example-reversed", 2),
        ("plain~labels=flipped", "per_example-labels:flipped", 2),
        ("plain~labels=flipped,order=reversed", "per_example-reversed-labels:flipped", 2),
        ("plain~select=bm25", "bm25", 1),
        ("plain~select=bm25,order=reversed", "bm25-reversed", 1),
        ("plain~select=bm25,labels=flipped", "bm25-labels:flipped", 1),
        ("plain~select=bm25,labels=flipped,order=reversed", "bm25-reversed-labels:flipped", 1),
        ("plain~select=knn", f"knn-{encoder}", 1),
        ("plain~select=knn,order=reversed", f"knn-{encoder}-reversed", 1),
        ("plain~select=knn,labels=flipped", f"knn-{encoder}-labels:flipped", 1),
        ("plain~select=knn,labels=flipped,order=reversed", f"knn-{encoder}-reversed-labels:flipped", 1),
    ]
    assert encoder.startswith("tiny#")
    assert {name: (score.axis, score.baseline) for name, score in scores.items() if "order" not in name} == {
        "plain": ("", ""),
        "plain~labels=flipped": ("labels", "plain"),
        "plain~select=bm25": ("selections", "plain"),
        "plain~select=bm25,labels=flipped": ("labels", "plain~select=bm25"),
        "plain~select=knn": ("selections", "plain"),
        "plain~select=knn,labels=flipped": ("labels", "plain~select=knn"),
    }
    assert {
        score.prompt for score in found.scores if score.axis == "selections" and score.variants
    } == set()  # 2 and 1 draws
    (mean,) = [
        score
        for score in evaluate(FakeLM(), task(), shots=2, **options).scores
        if score.variants == 3 and "lab" not in score.prompt
    ]
    assert mean.prompt == "plain~mean of 3 selections"


@pytest.mark.parametrize(
    "values", [("random", "bm25", "fast-vote-k"), ("fast-vote-k", "random"), ("bm25", "fast-vote-k")]
)
def test_a_selection_is_that_of_a_separate_run(values: tuple[str, ...], tmp_path: Path) -> None:
    named = task(prompt={"plain": "Word: {{ text }}\nLevel:"})
    options: dict[str, Any] = {"shots": [1, 3], "prompts": "plain"}
    several = evaluate(FakeLM(), named, select=values, formats=2, out=tmp_path / "all", **options)
    for index, select in enumerate(values):
        alone = evaluate(FakeLM(), named, select=select, out=tmp_path / select, **options)
        name = f"plain~select={select}" if index else "plain"

        assert [score.draw for score in several.scores if score.prompt == name] == [alone.scores[0].draw] * 2
        for shots in (1, 3):
            assert (prompts := prompts_of(several, name, shots)) == prompts_of(alone, "plain", shots)
            formatted = prompts_of(several, name.replace("plain", "plain~f1"), shots)
            assert [re.findall("word[0-9]", each) for each in formatted.values()] == [
                re.findall("word[0-9]", each) for each in prompts.values()
            ]


def test_the_most_similar_one_is_last_only_where_similarity_selects() -> None:
    options: dict[str, Any] = {"shots": 2, "order": ["drawn", "similar-last"]}
    found = evaluate(FakeLM(), task(), select=["random", "bm25"], **options)

    assert [score.prompt for score in found.scores if not score.variants] == [
        "plain",
        "plain~select=bm25",
        "plain~select=bm25,order=similar-last",
    ]
    with pytest.raises(
        IclEvalError, match="`order` similar-last goes with `select` bm25, knn, dpp, mdl, vote-k, but `select` is"
    ):
        evaluate(FakeLM(), task(), select=["random", "balanced"], **options)


def test_seeds_count_where_a_selection_of_several_draws() -> None:
    with pytest.raises(IclEvalError, match="levels: --select bm25,knn selects the same demonstrations for every seed"):
        evaluate(FakeLM(), task(), shots=1, select=["bm25", "knn"], seeds=2)
    several: list[list[str]] = [["bm25", "random"], ["knn", "balanced"]]
    for values in several:
        assert evaluate(FakeLM(), task(), shots=1, select=values, seeds=2).scores


def test_an_encoder_needs_a_selection_that_compares_its_vectors() -> None:
    with pytest.raises(IclEvalError, match=r"`encoder` goes with `select` knn, dpp, .*, but `select` is random, bm25"):
        evaluate(FakeLM(), task(), shots=1, select=["random", "bm25"], encoder="tiny")


def test_texts_that_depend_on_the_seed_are_kept_for_each(tmp_path: Path) -> None:
    found = evaluate(FakeLM(), task(draw="first"), shots=6, seeds=4, labels="random", out=tmp_path)
    frame = found.examples(prompts=True)
    first = frame[frame["id"] == "q0"]

    labels = {tuple(part.split()[-1] for part in text.split("\n\n")[:-1]) for text in first["prompt_text"]}
    assert len(first) == 4
    assert len(labels) > 1  # of one draw, with other labels


def test_each_variant_has_as_many_seeds_as_it_has_draws(tmp_path: Path) -> None:
    found = evaluate(
        FakeLM(),
        task(draw="first"),
        shots=4,
        seeds=3,
        labels=["gold", "flipped", "random"],
        order=["drawn", "reversed"],
        out=tmp_path,
    )

    seeds = {score.prompt: score.seeds for score in found.scores if not score.variants}
    assert {len(each) for prompt, each in seeds.items() if "random" not in prompt} == {1}
    assert {len(each) for prompt, each in seeds.items() if "random" in prompt} == {3}
    assert len(seeds) == 6
    assert rescore(tmp_path).scores == found.scores


def test_a_variant_is_compared_rescored_and_resumed_as_any_prompt(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": [0, 2], "labels": ["gold", "random"]}
    one = evaluate(FakeLM(), task(), out=tmp_path / "one", **options)
    lm = FakeLM(name="other")
    evaluate(lm, task(), out=tmp_path / "other", **options)
    answered = lm.answered
    evaluate(lm, task(), out=tmp_path / "other", **options)

    assert lm.answered == answered
    assert rescore(tmp_path / "one").scores == one.scores
    compared = compare(tmp_path / "one", tmp_path / "other")
    assert [(pair.one.prompt, pair.one.shots) for pair in compared.pairs] == [
        ("plain", 0),
        ("plain", 2),
        ("plain~labels=random", 2),
    ]


class Verbose(Crowd):
    """Takes many tokens for each byte, so that a few prompts fill a chunk."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[byte for byte in ids for _ in range(MIN_CHUNK_TOKENS // 1500)] for ids in super().encode(texts)]


@pytest.mark.parametrize(
    "options",
    [
        {"shots": [0, 1, 3], "labels": ["gold", "random"], "calibrate": ["contextual", "batch"], "seeds": [0, 1]},
        {"shots": [0, 1, 2, 4], "draw": "fixed", "order": ["drawn", "permutations:2"]},
        {"shots": [0, 2], "select": ["random", "mdl"], "until": 0.2},
    ],
)
def test_a_run_that_was_killed_stores_what_one_stores_that_was_not(options: dict[str, Any], tmp_path: Path) -> None:
    """The model's answers depend on what is computed together."""
    evaluate(Verbose(), task(), out=tmp_path / "whole", **options)
    lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)

    for part in (0.2, 0.6, 0.95):
        folder = tmp_path / str(part)
        folder.mkdir()
        (folder / "answers.jsonl").write_bytes(b"".join(lines[: round(part * len(lines))]))
        evaluate(Verbose(), task(), out=folder, **options)

        assert sorted((folder / "answers.jsonl").read_bytes().splitlines(keepends=True)) == sorted(lines)
        for name in ("examples.jsonl", "scores.json", "prompts.jsonl"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        ({}, "abstract:x/y", "levels has 3 options, but `labels: abstract:x/y` has 2 words"),
        ({"options": "choices"}, "permuted", "levels: `labels: permuted` needs the same options for every example"),
        ({"answer": "text", "references": "text"}, "random", "levels has no options"),
    ],
)
def test_labels_that_a_task_cannot_show(changes: dict[str, Any], labels: str, message: str) -> None:
    records = [{**each, "choices": [f"{each['n']}a", "b", "c"]} for each in (*TRAIN, *QUERIES)]
    given = {"evaluation": records[-3:], "demonstrations": records[:-3], "decode": None, **changes}
    if "references" in changes:
        given |= {"options": None, "decode": {"max_tokens": 4, "stop": ["\n"]}}
    with pytest.raises(IclEvalError, match=message):
        evaluate(FakeLM(), task(**given), shots=1, labels=["gold", labels])


def test_facts_of_the_bundled_model() -> None:
    found = evaluate(
        "tiny",
        "symbols",
        data="sample",
        shots=16,
        limit=60,
        labels=["gold", "random", "flipped", "permuted", "abstract:yes/no/true/false"],
    )
    gold, random, flipped, permuted, abstract = (score.value for score in found.scores)

    assert gold > 0.95
    assert random < 0.45  # the mapping stands only in the demonstrations, and a quarter of them is right by chance
    assert flipped < 0.05
    assert permuted > 0.95
    assert abstract > 0.9
