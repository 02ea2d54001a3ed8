from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from icl_eval.demos import Pool
from icl_eval.demos.ranks import by_rank, folded
from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks import Example, MemorySource, Task
from icl_eval.tasks.protocol import Protocol

PER_EXAMPLE, FIXED = Protocol(draw="per_example"), Protocol(draw="fixed")


def example(name: str, **overrides: Any) -> Example:
    default = {"fields": {"text": f"text {name}"}, "gold": (0,), "cluster": name, "group": name}
    return Example(id=name, options=("a", "b"), **default | overrides)


def many(prefix: str, count: int, **overrides: Any) -> list[Example]:
    return [example(f"{prefix}{number}", **overrides) for number in range(count)]


TRAIN, QUERIES = many("t", 40), many("q", 10)


def ids(drawn: Sequence[Example]) -> list[str]:
    return [each.id for each in drawn]


def drawn(
    query: Example,
    shots: int,
    seed: int = 0,
    pool: Sequence[Example] = TRAIN,
    protocol: Protocol = PER_EXAMPLE,
    shares_split: bool = False,
) -> list[str]:
    return ids(Pool("task", pool, protocol, shares_split=shares_split).draw(query, shots, seed))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(), st.sampled_from([PER_EXAMPLE, FIXED]))
def test_k_shot_draw_is_prefix_of_larger_draw(one: int, other: int, seed: int, protocol: Protocol) -> None:
    fewer, more = sorted((one, other))
    larger = drawn(QUERIES[0], more, seed, protocol=protocol)

    assert drawn(QUERIES[0], fewer, seed, protocol=protocol) == larger[:fewer]
    assert len(set(larger)) == more


@given(st.permutations(TRAIN))
def test_draw_does_not_depend_on_the_order_of_the_pool(pool: list[Example]) -> None:
    assert drawn(QUERIES[0], 8, pool=pool) == drawn(QUERIES[0], 8)


@given(st.permutations([*many("t", 12, group="g"), *many("u", 12, group="h"), *many("v", 12)]))
def test_draw_of_groups_does_not_depend_on_the_order_of_the_pool(pool: list[Example]) -> None:
    expected = drawn(QUERIES[0], 8, pool=[*many("t", 12, group="g"), *many("u", 12, group="h"), *many("v", 12)])

    assert drawn(QUERIES[0], 8, pool=pool) == expected


@given(st.permutations(QUERIES))
def test_draw_does_not_depend_on_what_else_is_evaluated(queries: list[Example]) -> None:
    pool = Pool("task", TRAIN, PER_EXAMPLE)
    found = {query.id: ids(pool.draw(query, 8, 0)) for query in queries[:4]}

    assert found == {query.id: drawn(query, 8) for query in queries[:4]}


def test_removing_a_candidate_moves_no_other() -> None:
    whole = drawn(QUERIES[0], 40)
    for gone in whole:
        pool = [candidate for candidate in TRAIN if candidate.id != gone]

        assert drawn(QUERIES[0], 39, pool=pool) == [name for name in whole if name != gone]


def test_adding_a_candidate_moves_no_other() -> None:
    larger = drawn(QUERIES[0], 45, pool=[*TRAIN, *many("new", 5)])

    assert [name for name in larger if not name.startswith("new")] == drawn(QUERIES[0], 40)


@pytest.mark.parametrize("protocol", [PER_EXAMPLE, FIXED])
def test_seeds_and_tasks_give_different_draws(protocol: Protocol) -> None:
    draws = [tuple(drawn(QUERIES[0], 8, seed, protocol=protocol)) for seed in range(20)]
    other = tuple(ids(Pool("other", TRAIN, protocol).draw(QUERIES[0], 8, 0)))

    assert len({*draws, other}) == 21


def test_per_example_draws_differ_between_queries() -> None:
    assert len({tuple(drawn(query, 8)) for query in QUERIES}) == len(QUERIES)


def test_fixed_draw_is_the_same_for_every_query() -> None:
    assert len({tuple(drawn(query, 8, protocol=FIXED)) for query in QUERIES}) == 1


def test_no_shots_draw_nothing_from_an_empty_pool() -> None:
    assert drawn(QUERIES[0], 0, pool=[]) == []


@pytest.mark.parametrize("shares_split", [False, True])
@pytest.mark.parametrize("protocol", [PER_EXAMPLE, FIXED])
def test_a_query_is_never_a_demonstration_of_itself(protocol: Protocol, shares_split: bool) -> None:
    pool = Pool("task", TRAIN, protocol, shares_split=shares_split)
    for query in TRAIN:
        assert set(ids(pool.draw(query, 39, 0))) == set(ids(TRAIN)) - {query.id}


def test_the_same_question_under_another_id_is_never_drawn() -> None:
    query = example("q", fields=TRAIN[3].fields)

    assert set(drawn(query, 39)) == set(ids(TRAIN)) - {"t3"}


def test_the_same_question_with_another_label_is_never_drawn() -> None:
    query = example("q", fields=TRAIN[3].fields, gold=(1,))

    assert "t3" not in drawn(query, 39)


def test_the_group_and_cluster_of_the_query_are_left_out_when_the_split_is_shared() -> None:
    pool = [example(f"{n}", group=f"g{n // 2}", cluster=f"c{n // 6}") for n in range(24)]
    shared = Pool("task", pool, PER_EXAMPLE, shares_split=True)
    for query in pool:
        assert {each.cluster for each in shared.draw(query, 9, 0)} == {f"c{n}" for n in range(4)} - {query.cluster}


def test_the_group_of_the_query_is_left_out_even_where_its_cluster_differs() -> None:
    pool = Pool(
        "task", [example("a", group="g"), example("b", group="g"), example("c")], PER_EXAMPLE, shares_split=True
    )

    assert {pool.draw(example("q", group="g"), 1, seed)[0].id for seed in range(20)} == {"c"}


def test_equal_names_of_groups_and_clusters_in_another_split_do_not_matter() -> None:
    query = example("0", fields={"text": "other"})
    pool = many("", 5)

    assert set(drawn(query, 5, pool=pool)) == set(ids(pool))


def test_group_counts_once() -> None:
    pool = [example(f"{group}{n}", group=group) for group in "abc" for n in range(5)]
    names = drawn(QUERIES[0], 3, pool=pool)

    assert sorted(name[0] for name in names) == ["a", "b", "c"]
    with pytest.raises(DataError, match="4 demonstrations were requested, but there are 3"):
        drawn(QUERIES[0], 4, pool=pool)


def test_every_member_of_a_group_stands_for_it_at_some_seed() -> None:
    pool = [example(f"{group}{n}", group=group) for group in "abc" for n in range(5)]

    assert {name for seed in range(60) for name in drawn(QUERIES[0], 3, seed, pool=pool)} == set(ids(pool))


def test_group_is_left_out_whichever_of_its_members_is_the_query() -> None:
    pool = [example(f"{group}{n}", group=group) for group in "abc" for n in range(5)]
    for member in pool[:5]:
        query = example("q", fields=member.fields)
        assert sorted(name[0] for name in drawn(query, 2, pool=pool)) == ["b", "c"]


WITHIN = Protocol(within="kind")
KINDS = [example(f"{kind}{n}", fields={"kind": kind, "n": n}) for kind in (0, 1) for n in range(6)]


def test_demonstrations_share_the_field_that_the_protocol_names() -> None:
    query = example("q", fields={"kind": 1})

    assert sorted(drawn(query, 6, pool=KINDS, protocol=WITHIN)) == sorted(ids(KINDS[6:]))


def test_draw_within_is_the_whole_draw_without_the_others() -> None:
    query = example("q", fields={"kind": 1})
    whole = [name for name in drawn(query, 12, pool=KINDS) if name.startswith("1")]

    assert drawn(query, 6, pool=KINDS, protocol=WITHIN) == whole


@pytest.mark.parametrize(("kind", "there"), [(1, 6), (7, 0)])
def test_too_few_candidates_within_are_an_error(kind: int, there: int) -> None:
    message = f"task: 9 demonstrations were requested, but there are {there} for the query 'q' with the same kind"

    with pytest.raises(DataError, match=message):
        drawn(example("q", fields={"kind": kind}), 9, pool=KINDS, protocol=WITHIN)


def test_protocol_within_an_unknown_field_is_an_error() -> None:
    with pytest.raises(DataError, match=r"`protocol\.within` names 'kind', which is not a field of the example"):
        drawn(QUERIES[0], 1, protocol=WITHIN)
    with pytest.raises(DataError, match=r"`protocol\.within` names 'kind', .* 'q0'"):
        drawn(QUERIES[0], 1, pool=KINDS, protocol=WITHIN)


@pytest.mark.parametrize("shares_split", [False, True])
def test_too_few_candidates_are_an_error(shares_split: bool) -> None:
    there = 39 if shares_split else 40
    query = TRAIN[0] if shares_split else QUERIES[0]
    pool = Pool("task", TRAIN, PER_EXAMPLE, shares_split=shares_split)

    assert len(pool.draw(query, there, 0)) == there
    with pytest.raises(DataError, match=f"41 demonstrations were requested, but there are {there} for the query"):
        pool.draw(query, 41, 0)


def test_candidates_count_groups() -> None:
    assert Pool("task", [*many("a", 5, group="g"), *many("b", 3)], PER_EXAMPLE).size == 4


def p_value(counts: Counter[Any], cells: int) -> float:
    return float(chisquare([*counts.values(), *[0] * (cells - len(counts))]).pvalue)


def test_every_candidate_is_drawn_equally_often_at_every_position() -> None:
    pool = Pool("task", TRAIN, PER_EXAMPLE)
    draws = [ids(pool.draw(query, 3, seed)) for query in many("q", 400) for seed in range(10)]

    for position in range(3):
        assert p_value(Counter(names[position] for names in draws), 40) > 0.001


def test_every_order_is_drawn_equally_often() -> None:
    few = TRAIN[:4]
    pool = Pool("task", few, FIXED)
    counts = Counter(tuple(ids(pool.draw(QUERIES[0], 4, seed))) for seed in range(4800))

    assert set(counts) == set(permutations(ids(few)))
    assert p_value(counts, 24) > 0.001


def test_draws_of_neighbouring_seeds_are_independent() -> None:
    few = TRAIN[:6]
    pool = Pool("task", few, FIXED)
    first = [pool.draw(QUERIES[0], 1, seed)[0].id for seed in range(7201)]

    assert p_value(Counter(pairwise(first)), 36) > 0.001


def test_groups_are_drawn_equally_often_whatever_their_size() -> None:
    pool = Pool("task", [*many("a", 30, group="large"), *many("b", 5)], PER_EXAMPLE)
    counts = Counter(pool.draw(query, 1, 0)[0].group for query in many("q", 6000))

    assert p_value(counts, 6) > 0.001


SCRIPT = """
import json, sys
from icl_eval.demos import Pool
from icl_eval.tasks import Example
from icl_eval.tasks.protocol import Protocol
pool = [Example(f"t{n}", {"text": f"t{n}"}, ("a", "b"), (0,), f"t{n}", f"t{n}", f"f{n}") for n in range(40)]
query = Example("q", {"text": "q"}, ("a", "b"), (0,), "q", "q", "fq")
print(json.dumps([e.id for e in Pool("superglue/rte", pool, Protocol()).draw(query, 8, 3)]))
"""
# Drawn once and written down: a change of platform, library or code that moves a draw changes every result.
DRAWN = ["t16", "t33", "t27", "t23", "t30", "t18", "t14", "t34"]


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_draw_is_the_same_in_every_process_and_for_ever(hash_seed: str) -> None:
    environment = {"PYTHONHASHSEED": hash_seed}
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    ).stdout

    assert json.loads(output) == DRAWN


def test_task_whose_split_is_shared_never_shows_a_query_to_itself() -> None:
    records = [{"text": f"text {number // 2}", "label": number % 2} for number in range(20)]
    task = Task.from_records("sky", evaluation=records, prompt="{{ text }}", options=["no", "yes"])
    source = MemorySource({})
    pool = Pool(task.name, task.demonstrations(source), PER_EXAMPLE, shares_split=task.shares_split)
    for query in task.evaluation(source):
        texts = [each.fields["text"] for each in pool.draw(query, 18, 0)]

        assert query.fields["text"] not in texts


def test_a_candidate_with_the_same_question_is_drawn_only_where_the_protocol_allows_it() -> None:
    query = example("q", fields={"text": "the same"})
    pool = [*many("t", 5), example("twin", fields={"text": "the same"})]

    assert "twin" not in drawn(query, 5, pool=pool)
    assert "twin" in drawn(query, 6, pool=pool, protocol=Protocol(repeat=True))


COLOURS = {"question": "What colour is the sky?", "options": ["red", "blue", "green"], "label": 1}
TWINS: dict[str, tuple[dict[str, Any], str, str]] = {  # how the query's record is written in the pool; query; options
    "options in another order": ({"options": ["green", "red", "blue"], "label": 2}, "{{ question }}", "options"),
    "another case": ({"question": "what COLOUR is the Sky?"}, "{{ question }}", "options"),
    "other white space": ({"question": " What colour\u00a0is\nthe  sky ?"}, "{{ question }}", "options"),
    "an id that no key names": ({"number": 7}, "{{ question }}", "options"),
    "another answer": ({"label": 0}, "{{ question }}", "options"),
    "options in columns": ({"a": "blue", "b": "red", "label": 0}, "{{ question }}", "{{ a }}|{{ b }}"),
    "letters of columns": ({"a": "blue", "b": "red", "label": 0}, "{{ question }} {{ a }} {{ b }}", "A|B"),
    "a list of passages": ({"facts": ["it glows", "it is wide"]}, "{{ facts | join }} {{ question }}", "options"),
    "lettered choices": (
        {"facts": [{"letter": "A", "text": "wide"}, {"letter": "B", "text": "low"}]},
        "{% for each in facts %}{{ each.letter }}: {{ each.text }} {% endfor %}{{ question }}",
        "options",
    ),
}
ORIGINALS: dict[str, dict[str, Any]] = {
    "a list of passages": {"facts": ["it is wide", "it glows"]},
    "lettered choices": {"facts": [{"letter": "A", "text": "low"}, {"letter": "B", "text": "wide"}]},
}


@pytest.mark.parametrize("change", TWINS)
def test_a_query_never_sees_its_question_written_in_another_way(change: str) -> None:
    other, prompt, options = TWINS[change]
    query: dict[str, Any] = {"number": 1, "a": "red", "b": "blue", **COLOURS, **ORIGINALS.get(change, {})}
    twin = query | other
    unrelated = [query | {"question": f"question {n}", "label": n % 2} for n in range(3)]
    task = Task.from_records(
        "sky",
        evaluation=[query],
        demonstrations=[twin, *unrelated],
        prompt=prompt,
        options=options if options == "options" else options.split("|"),
    )
    source = MemorySource({})
    (evaluated,), pool = task.evaluation(source), Pool.of(task, task.demonstrations(source))

    assert {each.fields["question"] for each in pool.draw(evaluated, 3, 0)} == {
        "question 0",
        "question 1",
        "question 2",
    }
    with pytest.raises(DataError, match="4 demonstrations were requested, but there are 3"):
        pool.draw(evaluated, 4, 0)


def test_a_query_whose_lowest_ranks_are_all_excluded_gets_all_its_demonstrations() -> None:
    near, far = many("near", 60, cluster="large"), many("far", 3)
    pool = Pool("task", [*near, *far], PER_EXAMPLE, shares_split=True)

    for seed in range(5):
        assert set(ids(pool.draw(near[0], 3, seed))) == set(ids(far))


@pytest.mark.parametrize("draw", ["per_example", "per_group"])
def test_a_query_gets_all_its_demonstrations_where_the_pool_is_full_of_its_question(draw: Any) -> None:
    query, twins, far = example("q", group="q"), many("t", 60, fields={"text": "text q"}), many("far", 3)

    assert set(drawn(query, 3, pool=[*twins, *far], protocol=Protocol(draw=draw))) == set(ids(far))


PER_GROUP = Protocol(draw="per_group")


def test_queries_of_a_group_share_a_draw_and_other_groups_do_not() -> None:
    one, other, unrelated = (example(name, group=group) for name, group in [("a", "g"), ("b", "g"), ("c", "h")])

    assert drawn(one, 10, protocol=PER_GROUP) == drawn(other, 10, protocol=PER_GROUP)
    assert drawn(one, 10, protocol=PER_GROUP) != drawn(unrelated, 10, protocol=PER_GROUP)


@pytest.mark.parametrize("shares_split", [False, True])
@pytest.mark.parametrize("shared", [{"group": "g"}, {"group": "other", "cluster": "g"}])
def test_draw_per_group_leaves_out_the_passage_of_the_group(shared: dict[str, str], shares_split: bool) -> None:
    query = example("q", group="g", cluster="g")
    pool = [*many("t", 6), *many("u", 3, **shared)]
    names = drawn(query, 6, pool=pool, protocol=PER_GROUP, shares_split=shares_split)

    assert {name[0] for name in names} == {"t"}


def test_draws_per_group_are_keyed_by_the_group_as_others_are_by_the_query() -> None:
    assert drawn(example("x", group="q"), 5, protocol=PER_GROUP) == drawn(example("q"), 5, protocol=PER_EXAMPLE)


@pytest.mark.parametrize("size", [0, 1, 9, 40])
def test_indices_are_ordered_by_rank_each_once_however_few_are_wanted(size: int) -> None:
    keys, salt = np.random.default_rng(size).integers(2**64, size=size, dtype=np.uint64), np.uint64(2**63 + 1)
    indices = [int(index) for index in by_rank(folded(keys), salt, wanted=2)]

    assert indices == sorted(range(size), key=lambda index: mixed(int(keys[index]) ^ int(salt)))


def test_a_few_of_many_are_drawn_without_the_ranks_of_all_in_memory() -> None:
    keys = folded(np.random.default_rng(0).integers(2**64, size=10**6, dtype=np.uint64))
    next(by_rank(keys[:100], np.uint64(1), wanted=8))  # what the first call imports does not count
    tracemalloc.start()
    next(by_rank(keys, np.uint64(1), wanted=8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < keys.nbytes / 4


@pytest.mark.parametrize("shares_split", [False, True])
@pytest.mark.parametrize("shots", [0, 7, 8, 9, 11, 12])
def test_checking_a_pool_raises_the_error_that_a_draw_would_raise(shots: int, shares_split: bool) -> None:
    one_cluster = many("k", 5, cluster="k")
    candidates = [*many("a", 5), *many("b", 3, group="g"), example("c", fields={"text": "text q"}), *one_cluster]
    for query in (example("q"), candidates[0], candidates[-1]):
        pool = Pool("task", candidates, PER_EXAMPLE, shares_split=shares_split)
        outcomes = []
        for action in (partial(pool.draw, query, shots, 0), partial(pool.check, query, shots)):
            try:
                action()
                outcomes.append("")
            except DataError as error:
                outcomes.append(str(error))

        assert outcomes[0] == outcomes[1]


def mixed(value: int) -> int:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ value >> shift) * factor % 2**64
    return value ^ value >> 31


def test_a_draw_from_many_is_the_head_of_all_ranks() -> None:
    pool = many("many", 3000)

    def rank(candidate: Example) -> int:
        salt, key = (
            hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ("7\x1ftask\x1fq0", candidate.id)
        )
        return mixed(int.from_bytes(salt, "little") ^ int.from_bytes(key, "little"))

    assert drawn(QUERIES[0], 50, 7, pool=pool) == ids(sorted(pool, key=rank)[:50])


FIRST = Protocol(draw="first")


def test_first_shows_the_first_of_the_data_in_their_order() -> None:
    assert drawn(QUERIES[0], 5, seed=3, protocol=FIRST) == ids(TRAIN[:5])


def test_first_leaves_out_the_query_and_its_question() -> None:
    same_question = example("other", fields={"text": "text t1"})

    assert drawn(TRAIN[2], 3, protocol=FIRST, shares_split=True) == ids([TRAIN[0], TRAIN[1], TRAIN[3]])
    assert drawn(same_question, 3, protocol=FIRST) == ids([TRAIN[0], TRAIN[2], TRAIN[3]])


def test_first_within_a_field_keeps_to_the_querys_value() -> None:
    pool = [example(f"{name}{n}", fields={"text": f"{name} {n}", "subject": name}) for n in range(3) for name in "ab"]
    query = example("q", fields={"text": "?", "subject": "b"})

    assert drawn(query, 3, pool=pool, protocol=Protocol(draw="first", within="subject")) == ["b0", "b1", "b2"]


def test_demonstrations_given_by_id_keep_their_order() -> None:
    assert drawn(QUERIES[0], 3, protocol=Protocol(ids=["t9", "t2", "t30", "t1"])) == ["t9", "t2", "t30"]


def test_an_id_of_no_candidate_is_named() -> None:
    with pytest.raises(UnknownName, match="no demonstration of task is named 't99'; did you mean"):
        drawn(QUERIES[0], 1, protocol=Protocol(ids=["t1", "t99"]))


@given(st.integers(0, 12), st.integers(), st.booleans())
def test_a_balanced_draw_has_as_many_of_each_label_and_begins_a_larger_one(shots: int, seed: int, fixed: bool) -> None:
    labels = [0] * 30 + [1] * 6 + [2] * 4
    pool = [
        Example(f"p{n}", {"text": f"p {n}"}, ("a", "b", "c"), (label,), str(n), str(n))
        for n, label in enumerate(labels)
    ]
    protocol = Protocol(draw="fixed" if fixed else "per_example", select="balanced")
    found = Pool("task", pool, protocol).draw(QUERIES[0], shots, seed)

    assert found == Pool("task", pool, protocol).draw(QUERIES[0], 12, seed)[:shots]
    counts = [sum(each.gold == (label,) for each in found) for label in range(3)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == shots


def test_balanced_draws_of_two_seeds_begin_with_different_labels() -> None:
    pool = [example(f"p{n}", gold=(n % 2,)) for n in range(20)]
    first = {drawn(QUERIES[0], 1, seed, pool, Protocol(select="balanced"))[0] for seed in range(10)}

    assert {int(name[1:]) % 2 for name in first} == {0, 1}


def test_a_label_with_too_few_candidates_for_a_balanced_draw_is_named() -> None:
    pool = [example(f"p{n}", gold=(n == 7,)) for n in range(20)]

    assert len(drawn(QUERIES[0], 2, pool=pool, protocol=Protocol(select="balanced"))) == 2
    for act in (Pool.draw, Pool.check):
        with pytest.raises(DataError, match=r"needs 2 demonstrations with the label 'b' .*, and there is 1"):
            act(Pool("task", pool, Protocol(select="balanced")), QUERIES[0], 4, *([0] if act is Pool.draw else []))


@pytest.mark.parametrize("within", [None, "subject"])
def test_a_label_without_candidates_cannot_be_balanced(within: str | None) -> None:
    pool = [example(f"p{n}", fields={"text": f"p {n}", "subject": "x"}) for n in range(5)]
    pool += [example("y", gold=(1,), fields={"text": "y", "subject": "y"})] if within else []
    query = example("q", fields={"text": "q", "subject": "x"})

    with pytest.raises(DataError, match=r"needs 1 demonstration with the label 'b' .*, and there are 0"):
        drawn(query, 2, pool=pool, protocol=Protocol(select="balanced", within=within))


def test_groups_cannot_be_balanced() -> None:
    pool = [example("a", group="g"), example("b", group="g"), example("c")]

    with pytest.raises(DataError, match="needs examples without groups, but 'g' is a group of 2"):
        drawn(QUERIES[0], 1, pool=pool, protocol=Protocol(select="balanced"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ids": ["a"], "draw": "fixed"}, "`ids` fixes the demonstrations, but `draw` is fixed"),
        ({"ids": ["a", "b", "a"]}, "`ids` lists 'a' twice"),
        (
            {"draw": "first", "select": "balanced"},
            "`select` balanced goes with `draw` per_example or per_group or fixed, but",
        ),
    ],
)
def test_keys_of_a_draw_that_contradict_each_other_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol(**keys)


def test_the_words_of_a_draw_say_all_that_is_unusual() -> None:
    assert Protocol().draw_words() == "per_example"
    assert Protocol(select="balanced", order="reversed").draw_words() == "per_example-balanced-reversed"
    assert Protocol(ids=["a"]).draw_words() == "first"


def test_two_ids_of_one_group_are_both_drawn() -> None:
    pool = [example("a", group="g"), example("b", group="g"), example("c"), example("d", group="g")]
    listed = Pool("task", pool, Protocol(ids=["d", "a", "c"]))

    assert listed.size == 3
    assert [each.id for each in listed.draw(QUERIES[0], 3, 0)] == ["d", "a", "c"]
    assert [each.id for each in listed.draw(QUERIES[0], 2, 0)] == ["d", "a"]
