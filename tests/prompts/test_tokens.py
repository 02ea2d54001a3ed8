from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.errors import PromptError
from icl_eval.prompts import Scored, split_tokens
from icl_eval.prompts.tokens import common_prefix

from .encoders import GreedyEncoder, byte_level_bpe

START, FALLBACK = -1, -2
SENTENCES = [
    "question: does the ferry sail? answer: yes",
    "question: does the gull swim? answer: no",
    "The equation x == y holds, hello world, hello again.",
]
BPE = byte_level_bpe(SENTENCES)


def encode_bpe(texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in BPE.encode_batch(list(texts), add_special_tokens=False)]


def pieces(*texts: tuple[str, str], start: Sequence[int] = ()) -> list[tuple[list[str], list[str]]]:
    """The pieces of each context and continuation, special tokens as numbers."""
    encoder = GreedyEncoder()
    names: dict[int, str] = {START: "<start>", FALLBACK: "<fallback>"}

    def decoded(ids: list[int]) -> list[str]:
        return [names.get(each) or encoder.decode([each]) for each in ids]

    return [(decoded(s.context), decoded(s.continuation)) for s in split_tokens(encoder, texts, start, FALLBACK)]


def test_no_merge_leaves_the_boundary_where_it_was() -> None:
    assert pieces(("ab:", " yes")) == [(["ab", ":"], [" yes"])]


def test_merge_across_the_boundary_moves_the_whole_token_to_the_continuation() -> None:
    assert pieces(("x =", "=y")) == [(["x ="], ["=", "y"])]
    assert pieces(("y =", "=y")) == [(["y", " "], ["==", "y"])]
    assert pieces((": hel", "lo")) == [([":", " "], ["hello"])]


def test_merge_that_swallows_the_context_leaves_the_fallback() -> None:
    assert pieces(("hel", "lo")) == [(["<fallback>"], ["hello"])]
    assert pieces(("hel", "lo"), start=[START]) == [(["<start>"], ["hello"])]


def test_empty_context_is_the_fallback_unless_there_are_start_tokens() -> None:
    assert pieces(("", "ab")) == [(["<fallback>"], ["ab"])]
    assert pieces(("", "ab"), start=[START, START]) == [(["<start>", "<start>"], ["ab"])]


def test_start_tokens_stand_before_every_context() -> None:
    assert pieces(("a", "b"), ("c", "d"), start=[START]) == [(["<start>"], ["ab"]), (["<start>", "c"], ["d"])]


def test_options_of_one_question_share_one_boundary() -> None:
    assert pieces(("y =", "=y"), ("y =", " yes")) == [(["y", " "], ["==", "y"]), (["y", " "], ["=", " yes"])]
    assert pieces(("a", "c"), ("a", "bc")) == [(["<fallback>"], ["a", "c"]), (["<fallback>"], ["abc"])]


def test_different_contexts_are_parted_for_themselves() -> None:
    assert pieces(("y =", "=y"), ("z =", " yes")) == [(["y", " "], ["==", "y"]), (["z", " ", "="], [" yes"])]


def test_order_of_options_does_not_matter() -> None:
    texts = [("y =", "=y"), ("y =", " yes"), ("x", "ab")]

    assert pieces(*texts) == pieces(*texts[::-1])[::-1]


def test_continuation_without_a_token_is_an_error() -> None:
    with pytest.raises(PromptError, match="the continuation '' adds no tokens to its context"):
        pieces(("ab", ""))
    with pytest.raises(PromptError, match="the continuation '' adds no tokens"):
        pieces(("", ""))


def test_continuation_that_the_encoder_drops_is_an_error() -> None:
    def without_spaces(texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) for letter in text if letter != " "] for text in texts]

    with pytest.raises(PromptError, match="the continuation ' ' adds no tokens"):
        split_tokens(without_spaces, [("a", " ")], [], FALLBACK)


def test_model_reads_all_tokens_but_the_last() -> None:
    assert Scored([1, 2, 3], [4, 5]).input_length == 4


def test_texts_are_encoded_in_one_call() -> None:
    calls = []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        calls.append(list(texts))
        return [[ord(letter) for letter in text] for text in texts]

    split_tokens(encode, [("c", "1"), ("c", "2"), ("c", "3")], [], FALLBACK)

    assert calls == [["c", "c1", "c2", "c3"]]


TEXTS = st.text(alphabet="abcxy= helo\n:yes", max_size=12)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=6)


@given(PAIRS, st.lists(st.just(START), max_size=2))
def test_the_text_scored_is_always_the_text_of_the_prompt(texts: list[tuple[str, str]], start: list[int]) -> None:
    encoder = GreedyEncoder()
    for (context, continuation), scored in zip(texts, split_tokens(encoder, texts, start, FALLBACK), strict=True):
        special = len(start) or int(scored.context == [FALLBACK])
        ids = scored.context[special:] + scored.continuation

        assert ids == encoder([context + continuation])[0]
        assert encoder.decode(ids) == context + continuation
        assert scored.continuation
        assert scored.context


@given(PAIRS)
def test_context_is_never_longer_than_what_the_options_share(texts: list[tuple[str, str]]) -> None:
    encoder = GreedyEncoder()
    scored = split_tokens(encoder, texts, [START], FALLBACK)
    for (context, _), one in zip(texts, scored, strict=True):
        alone = [len(s.context) for c, a in texts if c == context for s in split_tokens(encoder, [(c, a)], [START], 0)]

        assert len(one.context) == min(alone)
        assert encoder([context])[0][: len(one.context) - 1] == one.context[1:]


WORDS = st.sampled_from([*" ".join(SENTENCES).split(), "日本", "שלום", "🐦", "\n\n", " ", "e\u0301"])


@given(st.lists(WORDS).map(" ".join), st.lists(WORDS, min_size=1).map(" ".join), st.integers(0, 40))
def test_byte_level_bpe_scores_the_text_of_the_prompt_wherever_the_boundary_is(left: str, right: str, at: int) -> None:
    whole = left + right
    context, continuation = whole[:at], whole[at:] or "."
    (scored,) = split_tokens(encode_bpe, [(context, continuation)], [], FALLBACK)
    ids = [each for each in scored.context + scored.continuation if each != FALLBACK]

    assert ids == encode_bpe([context + continuation])[0]
    assert BPE.decode(ids) == context + continuation


def test_byte_level_bpe_merges_across_the_boundary() -> None:
    (scored,) = split_tokens(encode_bpe, [("question: does the ferry sail? answer: y", "es")], [], FALLBACK)

    assert BPE.decode(scored.continuation) == " yes"
    assert BPE.decode(scored.context) == "question: does the ferry sail? answer:"


def test_byte_level_bpe_parts_words_at_their_space() -> None:
    context = "question: does the ferry sail? answer:"
    scored = split_tokens(encode_bpe, [(context, " yes"), (context, " no")], [], FALLBACK)

    assert [BPE.decode(each.continuation) for each in scored] == [" yes", " no"]
    assert {BPE.decode(each.context) for each in scored} == {context}


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix_is_the_longest(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)

    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


def test_special_tokens_that_a_text_after_an_empty_context_writes_itself_stand_there_once() -> None:
    ids = {"": [], "<start>a": [START, 5]}

    assert split_tokens(lambda texts: [ids[text] for text in texts], [("", "<start>a")], [START], FALLBACK) == [
        Scored([START], [5])
    ]


def test_the_input_of_an_encoder_decoder_is_as_long_as_its_longer_half() -> None:
    assert Scored([1, 2], [3, 4, 5], apart=True).input_length == 3
    assert Scored([1, 2], [3], apart=True).input_length == 2
