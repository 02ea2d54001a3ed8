from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from icl_eval.demos.ranks import by_score, folded, hash_of, hashes
from icl_eval.demos.similarity import BLOCK_QUERIES, QueryScores, Similarity, bm25, encoded, tfidf, words
from icl_eval.tasks import Example

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8).map(" ".join), min_size=1, max_size=12)


def test_bm25_is_the_formula_computed_by_hand() -> None:
    (scores,) = bm25(["red fox", "red red dog bird", "cat"]).scores(["red red cat fish"])

    mean = (2 + 4 + 1) / 3
    red, cat = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    first = 2 * red * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / mean))
    second = 2 * red * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / mean))
    third = cat * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 1 / mean))
    assert scores.tolist() == pytest.approx([first, second, third], rel=1e-6)


@settings(max_examples=25)
@given(TEXTS, TEXTS)
def test_bm25_is_that_of_bm25s_but_for_a_factor(texts: list[str], queries: list[str]) -> None:
    texts = [*texts, "a b c d e f g h"]  # bm25s knows only words of the texts
    reference = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    reference.index([words(text) for text in texts], show_progress=False)
    expected = np.array([reference.get_scores(words(query)) if query else np.zeros(len(texts)) for query in queries])

    assert bm25(texts).scores(queries) == pytest.approx(2.5 * expected, abs=1e-5)


@settings(max_examples=25)
@given(TEXTS, TEXTS)
def test_cosines_of_tfidf_are_those_of_scikit_learn(texts: list[str], queries: list[str]) -> None:
    texts = [*texts, "a z"]  # scikit-learn needs a word
    reference = TfidfVectorizer(analyzer=words).fit(texts)
    expected = (reference.transform(queries) @ reference.transform(texts).T).toarray()

    found = tfidf(texts)

    assert found.scores(queries) == pytest.approx(expected, abs=1e-6)
    some = np.arange(len(texts))[::2]
    vectors = reference.transform(texts)[some]
    assert found.between(some) == pytest.approx((vectors @ vectors.T).toarray(), abs=1e-6)


def lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), text.count("a")] for text in texts], np.float32)


def test_vectors_of_an_encoder_are_compared_by_their_cosine() -> None:
    found = encoded(["aaa", "bbb", ""], lengths)

    expected = np.array([[1, 0.5**0.5, 0], [3 / 10**0.5, 2 / 5**0.5, 0]])
    assert found.scores(["a", "ab"]) == pytest.approx(expected, abs=1e-6)
    assert found.between(np.array([0, 1])) == pytest.approx(np.array([[1, 0.5**0.5], [0.5**0.5, 1]]), abs=1e-6)


@pytest.mark.parametrize("compare", [bm25, tfidf])
@pytest.mark.parametrize("texts", [["", "!"], ["a", ""]])
def test_texts_without_words_are_similar_to_nothing(
    compare: Callable[[Sequence[str]], Similarity], texts: list[str]
) -> None:
    scores = compare(texts).scores(["!", "new words"])

    assert scores.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("compare", [bm25, tfidf])
def test_scores_do_not_depend_on_the_order_of_the_candidates(compare: Callable[[Sequence[str]], Similarity]) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghijkl"), 9)) for _ in range(30)]
    order = rng.permutation(30)

    here, there = (compare(each).scores(["a b c d e f"])[0] for each in (texts, [texts[index] for index in order]))

    assert there.tolist() == here[order].tolist()


def test_words_are_read_in_any_script() -> None:
    assert words("Don't STOP, 42%! Ｆｕｌｌ") == ["don", "t", "stop", "42", "full"]
    assert words("猫がsat ไทย") == ["猫", "が", "sat", "ไ", "ท", "ย"]


def test_scores_of_a_query_are_the_same_in_a_block_and_alone() -> None:
    count = 2 * BLOCK_QUERIES
    queries = [Example(f"{n}", {"text": f"a {'b ' * n}c"}, (), (), f"{n}", f"{n}") for n in range(count + 1)]
    seen: list[int] = []

    def compared(texts: Sequence[str]) -> np.ndarray:
        seen.append(len(texts))
        return lengths(texts)

    scores = QueryScores(encoded(["abc", "ab a"], compared), lambda query: str(query.fields["text"]), queries[:count])
    found = [scores.of(query).tolist() for query in queries]

    assert seen == [2, BLOCK_QUERIES, BLOCK_QUERIES, 1]
    assert found == [
        encoded(["abc", "ab a"], lengths).scores([str(each.fields["text"])])[0].tolist() for each in queries
    ]


def test_the_most_similar_of_many_candidates_come_first() -> None:
    scores = np.random.default_rng(0).permutation(100).astype(np.float32)

    order = [*by_score(scores, folded(hashes(map(str, range(100)))), hash_of("salt"), wanted=1)]

    assert scores[order].tolist() == sorted(scores, reverse=True)
