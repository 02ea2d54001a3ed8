from __future__ import annotations

from itertools import combinations, islice

import numpy as np
import pytest

from icl_eval.demos.selection import dpp, fast_vote_k, representatives, vote_k


def unit(seed: int, count: int, size: int = 6) -> np.ndarray:
    vectors = np.abs(np.random.default_rng(seed).normal(size=(count, size)))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
def test_dpp_adds_what_makes_the_determinant_of_the_kernel_largest(seed: int) -> None:
    query, *candidates = unit(seed, 9)
    vectors = np.array(candidates)
    relevance, similarity = vectors @ query, vectors @ vectors.T
    closeness = (relevance + 1) / 2
    weights = np.exp((closeness - closeness.max()) / 0.2)
    kernel = np.outer(weights, weights) * (similarity + 1) / 2

    selected = list(dpp(relevance, similarity))

    assert sorted(selected) == list(range(8))
    for count in range(6):
        before = selected[:count]
        best = max(
            (each for each in range(8) if each not in before),
            key=lambda each: np.linalg.det(kernel[np.ix_([*before, each], [*before, each])]),
        )
        assert selected[count] == best


def test_dpp_takes_duplicates_last_and_knn_would_take_them_first() -> None:
    vectors = np.array([[1, 0.1, 0], [1, 0.1, 0], [1, 0.1, 0], [0.8, 0, 0.6], [0, 0, 1]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = vectors @ np.array([1, 0, 0])

    assert np.argsort(-relevance, kind="stable").tolist() == [0, 1, 2, 3, 4]
    assert list(dpp(relevance, vectors @ vectors.T)) == [0, 3, 4, 1, 2]
    twice = vectors[[4, 3, 0, 4, 3, 0]]
    assert list(dpp(twice @ np.array([1, 0, 0]), twice @ twice.T))[3:] == [5, 4, 3]


def test_vote_k_of_a_graph_done_by_hand() -> None:
    similarity = np.zeros((5, 5))
    for voter, (first, second) in {0: (1, 2), 1: (0, 2), 2: (0, 1), 3: (2, 4), 4: (2, 3)}.items():
        similarity[voter, [first, second]] = 2, 1
    # Voters for 0: 1, 2; for 1: 0, 2; for 2: 0, 1, 3, 4; for 3: 4; for 4: 3. So 2 is selected, with four votes. It no
    # longer votes, and its voters weigh 1/10, so 0, 1, 3 and 4 have 1/10 each: 0 is selected. Its voter 1 weighs 1/100.
    # All voters for 1 are selected; 3 and 4 still have 1/10: 3 is selected. Now all voters for 4 are selected, too.

    assert list(fast_vote_k(similarity, votes=2)) == [2, 0, 3, 1, 4]


def test_vote_k_with_a_model_done_by_hand() -> None:
    similarity = np.zeros((5, 5))
    for voter, (first, second) in {0: (1, 2), 1: (0, 2), 2: (0, 1), 3: (2, 4), 4: (2, 3)}.items():
        similarity[voter, [first, second]] = 2, 1
    # As above, 2 is selected by votes. Two are left to select, so there are two buckets, of 9 * 5 // (10 * 2) = 2.
    # The candidates from the least to the most certain are 4, 1, 0, 3. In the first bucket, 4 has the vote of 3 and 1
    # has that of 0, which weigh 1/10 each: 1 is selected. The weight of its voter 0 is now 1/100, and no one that is
    # left votes for 0; 3 has the vote of 4, which weighs 1/10: 3 is selected.

    assert vote_k(similarity, {0: -1.0, 1: -2.5, 3: -0.5, 4: -3.0}, 3, votes=2) == [2, 1, 3]
    assert vote_k(similarity, {0: -1.0, 1: -0.2, 3: -3.5, 4: -3.0}, 3, votes=2) == [2, 3, 0]
    assert vote_k(similarity, {}, 1, votes=2) == [2]


@pytest.mark.parametrize(("count", "of"), [(2, 30), (5, 40), (11, 40), (20, 47), (25, 60), (30, 30)])
def test_vote_k_is_the_published_algorithm(count: int, of: int) -> None:
    vectors = unit(count, of)
    similarity = vectors @ vectors.T
    confidence = dict(enumerate(np.random.default_rng(count).normal(size=of).tolist()))
    neighbours = {v: sorted({*range(of)} - {v}, key=lambda u: -similarity[v, u])[:4] for v in range(of)}
    left, labelled = list(range(of)), list[int]()

    def votes(candidate: int) -> float:
        return sum(10.0 ** -len({*labelled} & {*neighbours[v]}) for v in left if candidate in neighbours[v])

    def take(candidates: list[int]) -> None:
        labelled.append(max(candidates, key=lambda candidate: (round(votes(candidate), 9), -candidate)))
        left.remove(labelled[-1])

    while len(labelled) < count / 10:
        take(left)
    by_confidence, buckets = sorted(left, key=lambda candidate: confidence[candidate]), count - len(labelled)
    width = int(of * 0.9 / buckets)
    for bucket in range(buckets):
        take(by_confidence[bucket * width : (bucket + 1) * width])

    assert vote_k(similarity, confidence, count, votes=4) == labelled


def test_vote_k_of_few_candidates_lets_each_vote_for_all_others() -> None:
    assert list(fast_vote_k(np.ones((4, 4)))) == [0, 1, 2, 3]
    assert list(fast_vote_k(np.ones((1, 1)))) == [0]


@pytest.mark.parametrize("seed", range(3))
def test_representatives_are_near_to_all_candidates(seed: int) -> None:
    vectors = unit(seed, 9)
    similarity = vectors @ vectors.T

    def covered(chosen: tuple[int, ...]) -> float:
        return float(similarity[list(chosen)].max(axis=0).sum())

    selected = list(representatives(similarity))

    assert sorted(selected) == list(range(9))
    assert selected[0] == max(range(9), key=lambda each: covered((each,)))
    for count in (2, 3, 4):  # greedy selection of a submodular function (Nemhauser et al. 1978)
        best = max(map(covered, combinations(range(9), count)))
        assert covered(tuple(selected[:count])) >= (1 - 1 / np.e) * best


def test_each_cluster_has_a_representative_before_any_has_two() -> None:
    centres = np.repeat(np.eye(4), [6, 3, 4, 5], axis=0)
    vectors = centres + 0.1 * unit(0, 18, 4)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    first = list(islice(representatives(vectors @ vectors.T), 4))

    assert sorted(np.argmax(centres[first], axis=1).tolist()) == [0, 1, 2, 3]


def test_each_of_100_candidates_votes_for_five_others() -> None:
    vectors = unit(0, 100)
    similarity = vectors @ vectors.T

    assert [*islice(fast_vote_k(similarity), 8)] == [*islice(fast_vote_k(similarity, votes=5), 8)]
    assert [*islice(fast_vote_k(similarity), 8)] != [*islice(fast_vote_k(similarity, votes=3), 8)]
