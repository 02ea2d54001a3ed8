from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy_tasks import parity

from icl_eval import Task, evaluate
from icl_eval.demos import Pool
from icl_eval.demos.similarity import bm25, tfidf
from icl_eval.errors import DataError
from icl_eval.models import ScoreRequest
from icl_eval.models.protocol import ScoreAnswer, Sink
from icl_eval.tasks import Example, MemorySource
from icl_eval.tasks.protocol import BY_MODEL, BY_SIMILARITY, FOR_ALL, Protocol
from icl_eval.testing import FakeLM

SIMILAR = tuple("vote-k:30" if select == "vote-k" else select for select in BY_SIMILARITY)  # all are annotated
SELECTIONS = (*SIMILAR, *FOR_ALL)


def example(name: str, text: str, **given: Any) -> Example:
    default = {"options": ("a", "b"), "gold": (0,), "cluster": name, "group": name}
    return Example(id=name, fields={"text": text}, **default | given)


def some(prefix: str, count: int, seed: int = 0, **given: Any) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [example(f"{prefix}{n}", " ".join(rng.choice(list("abcdefghijkl"), 6)), **given) for n in range(count)]


TRAIN, QUERIES = some("t", 30), some("q", 6, seed=1)


def ids(drawn: Iterable[Example]) -> list[str]:
    return [each.id for each in drawn]


def drawn(
    select: str,
    query: Example = QUERIES[0],
    shots: int = 4,
    seed: int = 0,
    train: Sequence[Example] = TRAIN,
    **given: Any,
) -> list[str]:
    within = {"within": given.pop("within")} if "within" in given else {}
    protocol = Protocol.model_validate({"select": select, **within})
    return ids(Pool("task", train, protocol, **given).draw(query, shots, seed))


@pytest.mark.parametrize(("select", "compare"), [("bm25", bm25), ("knn", tfidf)])
def test_the_most_similar_candidates_are_drawn_in_their_order(
    select: str, compare: Callable[[Sequence[str]], Any]
) -> None:
    (scores,) = compare([str(each.fields["text"]) for each in TRAIN]).scores([str(QUERIES[0].fields["text"])])

    found = drawn(select, shots=30)

    by_id = dict(zip(ids(TRAIN), scores, strict=True))
    assert [by_id[name] for name in found] == sorted(scores, reverse=True)
    assert found[:3] != ids(TRAIN[:3])


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_selection_begins_a_larger_one_and_depends_on_no_order_label_or_other_query(select: str) -> None:
    whole = drawn(select, shots=30)
    mislabelled = [replace(each, gold=(1,)) for each in TRAIN]

    assert sorted(whole) == sorted(ids(TRAIN))
    assert [drawn(select, shots=shots) for shots in (0, 1, 4, 9)] == [whole[:shots] for shots in (0, 1, 4, 9)]
    assert drawn(select, train=TRAIN[::-1]) == whole[:4]
    assert drawn(select, replace(QUERIES[0], gold=(1,)), train=mislabelled) == whole[:4]
    assert drawn(select, queries=QUERIES) == whole[:4]
    assert (drawn(select, QUERIES[1]) == whole[:4]) == (select in FOR_ALL)


@pytest.mark.parametrize("select", SELECTIONS)
def test_neither_a_query_nor_its_cluster_or_question_is_its_demonstration(select: str) -> None:
    train = [replace(each, cluster=f"c{index // 3}") for index, each in enumerate(TRAIN)]
    shared = Pool("task", train, Protocol.model_validate({"select": select}), shares_split=True)
    for query in train:
        assert sorted(ids(shared.draw(query, 27, 0))) == sorted(ids(e for e in train if e.cluster != query.cluster))
        with pytest.raises(DataError, match="28 demonstrations were requested, but there are 27"):
            shared.draw(query, 28, 0)

    repeated = replace(QUERIES[0], fields=TRAIN[3].fields, fingerprint=TRAIN[3].fingerprint)
    assert "t3" not in drawn(select, repeated, shots=29)


@pytest.mark.parametrize("select", SELECTIONS)
def test_questions_about_the_same_passage_are_not_drawn_from_another_split(select: str) -> None:
    train = [replace(each, group=f"p{index // 3}") for index, each in enumerate(TRAIN)]
    query = replace(QUERIES[0], group="p0")

    assert len(drawn(select, query, shots=9, train=train)) == 9
    with pytest.raises(DataError, match="there are 9"):
        drawn(select, query, shots=10, train=train)


@pytest.mark.parametrize("select", SELECTIONS)
def test_selections_keep_within_the_value_of_a_field(select: str) -> None:
    train = [replace(each, fields={**each.fields, "kind": index % 3}) for index, each in enumerate(TRAIN)]
    query = replace(QUERIES[0], fields={**QUERIES[0].fields, "kind": 1})

    found = drawn(select, query, shots=10, train=train, within="kind")

    assert sorted(found) == sorted(f"t{index}" for index in range(1, 30, 3))


@pytest.mark.parametrize("select", SIMILAR)
def test_the_seed_decides_only_between_equally_similar_candidates(select: str) -> None:
    near, far = [example(f"n{n}", "red fox") for n in range(6)], some("f", 6)
    draws = {tuple(drawn(select, example("q", "a red fox"), 6, seed, [*far, *near])) for seed in range(5)}

    assert len(draws) > 2
    if select != "dpp":
        assert {name[0] for names in draws for name in names} == {"n"}
    assert len({tuple(drawn(select, seed=seed)) for seed in range(5)}) == 1


def test_organisations_are_the_nearest_and_random_draws_of_those_that_are_near() -> None:
    query = example("q", "a fox")
    near = [example(f"near{n}", f"{each.fields['text']} fox") for n, each in enumerate(TRAIN)]
    train = [*near, *(example(f"far{n}", "an owl") for n in range(30))]
    made = Pool("task", train, Protocol(select="mdl")), Pool("task", train[::-1], Protocol(select="mdl"))
    draws = [[ids(each.draw(query, 8, 0, index)) for index in range(10)] for each in made]

    assert draws[0] == draws[1]
    assert draws[0][0] == drawn("knn", query, shots=8, train=train)
    assert len({tuple(each) for each in draws[0]}) == 10
    assert {name[:4] for each in draws[0] for name in each} == {"near"}
    assert [ids(made[0].draw(query, 3, 0, index)) for index in range(10)] == [each[:3] for each in draws[0]]
    assert ids(made[0].draw(query, 8, 1, 1)) not in draws[0]
    assert sorted(ids(made[0].draw(query, 60, 0, 4))) == sorted(ids(train))


def test_dpp_draws_no_duplicates_where_knn_does() -> None:
    train = [*(example(f"same{n}", "the red fox runs") for n in range(5)), *some("other", 10)]
    train += [example("fox", "a fox sleeps"), example("red", "red apples")]
    query = example("q", "the red fox")

    assert {name[:4] for name in drawn("knn", query, train=train)} == {"same"}
    assert sorted(name.rstrip("0123456789") for name in drawn("dpp", query, 3, train=train)) == ["fox", "red", "same"]


def test_selections_for_all_queries_take_a_sample_by_seed_of_many_candidates() -> None:
    for select in FOR_ALL:
        protocol = Protocol.model_validate({"select": select})
        pools = [Pool("task", TRAIN[:count], protocol, sample=10) for count in (10, 30)]

        assert [each.seeds_differ for each in pools] == [False, True]
        assert len({tuple(ids(pools[1].draw(QUERIES[0], 3, seed))) for seed in range(4)}) > 1
        for pool in (pools[1], pools[1].under(protocol)):
            with pytest.raises(DataError, match="11 demonstrations were requested, but there are 10"):
                pool.draw(QUERIES[0], 11, 0)


def test_a_group_is_compared_by_the_member_that_is_drawn() -> None:
    members = [example("x", "red fox", group="g"), example("y", "blue bird", group="g")]
    found = {
        query: drawn("knn", example("q", query), 1, train=[*members, example("z", "cat")]) for query in ("red", "blue")
    }

    assert sorted((*found["red"], *found["blue"]))[0] in ("x", "y")
    assert drawn("knn", example("q", "red"), 1, train=members[::-1]) == drawn(
        "knn", example("q", "blue"), 1, train=members
    )


def test_a_query_that_differs_between_options_is_compared_by_all_of_them() -> None:
    records = [{"text": f"the {word} is", "label": n % 2} for n, word in enumerate(("fox", "cat", "owl"))]
    task = Task.from_records("t", evaluation=records, prompt="{{ option }} {{ text }}", options=["red", "blue"])
    first, second, _ = task.evaluation(MemorySource({}))

    assert task.query_text(first) == "red the fox is\nblue the fox is"
    assert task.query_text(second) == "red the cat is\nblue the cat is"
    assert task.query_text(replace(first, gold=(1,))) == task.query_text(first)


class Copying(FakeLM):
    """A model that prefers the answer of the last demonstration."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        for index, request in enumerate(requests):
            text = bytes(request.tokens[: request.boundary].tolist()).decode()
            answer = bytes(request.tokens[request.boundary :].tolist()).decode()
            last = text.split("\n\n")[-2] if "\n\n" in text else ""
            logprob = -0.1 if last.endswith(answer) else -5.0
            sink(index, ScoreAnswer((logprob,) * len(answer), True))


WORDS = {"animal": ["cat dog", "dog owl", "owl cat", "cat owl", "owl dog"], "plant": ["oak fir", "fir elm", "elm oak"]}


@pytest.mark.parametrize("select", [select for select in BY_SIMILARITY if select not in BY_MODEL])
def test_similar_demonstrations_help_where_neighbours_share_labels(select: str) -> None:
    texts = [(text, n) for n, name in enumerate(WORDS) for text in WORDS[name]]
    records = [{"text": f"{text} {n}", "label": label} for n in range(5) for text, label in texts]
    task = Task.from_records(
        "t", evaluation=records[::3], demonstrations=records, prompt="{{ text }} is a", options=list(WORDS)
    )

    (near,) = evaluate(Copying(), task, shots=3, select=select).scores
    (random,) = evaluate(Copying(), task, shots=3).scores

    assert near.value == 1
    assert random.value < 0.8
    assert f"|k3|{select}-similar-last|s0|" in near.signature


def test_one_seed_is_evaluated_where_the_task_itself_leaves_nothing_to_draw() -> None:
    for keys in ({"draw": "first"}, {"ids": ["100", "101"]}, {"select": "bm25"}):
        (score,) = evaluate(FakeLM(), parity(**keys), shots=2, seeds=3).scores
        assert score.seeds == (0,)
