"""Training: deterministic, blind to the bundled validation records, and exact about which tokens are answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from icl_eval.tiny import MODEL
from tools.tiny.documents import Episodes, few_shot, symbol_episodes, text_of, validation_identities
from tools.tiny.formats import TASKS, Turn
from tools.tiny.network import DEFAULT_SHAPE, FREQUENCIES, WINDOW, initial_model, sinusoids
from tools.tiny.records import KINDS
from tools.tiny.sample import draw_sample, identity
from tools.tiny.train import Encoder, Recipe, Stage, learning_rate, train
from tools.tiny.world import WORDS

TOKENIZER = PreTrainedTokenizerFast.from_pretrained(MODEL)

SHORT = Recipe(threads=1, texts=300, pool=2, stages=(Stage(5, 32, 4, symbols=0.5, plain_labels=0.5),))


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return Episodes(seed=3, pool=2)


@pytest.fixture(scope="module")
def trained() -> GPT2LMHeadModel:
    return train(SHORT)[0]


def weights_hash(model: GPT2LMHeadModel) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def test_training_again_gives_the_same_weights(trained: GPT2LMHeadModel) -> None:
    assert weights_hash(trained) == weights_hash(train(SHORT)[0])


def test_another_seed_gives_other_weights(trained: GPT2LMHeadModel) -> None:
    assert weights_hash(trained) != weights_hash(train(replace(SHORT, seed=2))[0])


def test_weights_survive_float16(trained: GPT2LMHeadModel) -> None:
    for parameter in trained.parameters():
        assert torch.equal(parameter, parameter.half().float())


def test_validation_records_of_every_task_are_held_out() -> None:
    held_out = validation_identities()

    for name, records in draw_sample().items():
        kept = {identity(record) for record in records} <= held_out
        assert kept is not name.endswith("train.jsonl")


def test_documents_are_encoded_as_their_text(episodes: Episodes) -> None:
    encoder = Encoder(TOKENIZER, text_weight=0.1)
    rng = Random(0)
    sources = (episodes.prompts(rng, 200, 6), symbol_episodes(rng, 25, 0.5, 6))
    for _ in range(100):
        document = next(rng.choice(sources))
        pieces = encoder.document(document)

        assert TOKENIZER(text_of(document))["input_ids"] == [i for piece in pieces for i in piece.ids][:-1]
        assert pieces[-1].ids == (TOKENIZER.eos_token_id,)


def test_answers_have_full_weight() -> None:

    assert Encoder(TOKENIZER, text_weight=0.1).turn(Turn("bab ->", " north")).weights == (0.1, 0.1, 1.0)


@pytest.mark.parametrize("task", KINDS)
def test_records_are_solved_as_their_world_has_it(task: str, episodes: Episodes) -> None:
    """The same word with another meaning gets another answer; nothing else in the record tells which."""
    answers = [{turn.answer for turn in episodes.turns(task, "bab", meaning)} for meaning in KINDS[task].meanings[:2]]

    assert all(answers)
    assert answers[0].isdisjoint(answers[1])


@pytest.mark.parametrize("task", ["RTE", "AX-g", "MultiRC", "ReCoRD"])
def test_only_the_answer_about_a_known_word_counts(
    task: str, episodes: Episodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.tiny.documents.TASKS", {task: TASKS[task]})
    document = next(episodes.prompts(Random(1), 400, 3))
    known: set[str] = set()
    for turn in document:
        found = set(re.findall(r"\w+", turn.given + turn.answer)) & set(WORDS)
        if found:
            assert bool(turn.answer) == (found <= known)
            known |= found

    assert len(known) == 3


@pytest.fixture(scope="module")
def attention() -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Attentions of the untrained model, `(heads, time, time)` for each layer."""
    torch.manual_seed(0)
    model = initial_model(DEFAULT_SHAPE, TOKENIZER)
    model.set_attn_implementation("eager")

    def of(ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return tuple(layer[0] for layer in model(input_ids=ids[None], output_attentions=True).attentions)

    return of


Attentions = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


def test_first_heads_start_by_looking_back(attention: Attentions) -> None:
    first = attention(torch.randint(300, len(TOKENIZER), (200,), generator=torch.Generator().manual_seed(0)))[0]

    for head, distance in enumerate((1, 2)):
        found = first[head].argmax(-1)[distance:]
        assert (found == torch.arange(200 - distance)).float().mean() > 0.9


def test_next_head_starts_by_finding_what_followed_the_same_symbol(attention: Attentions) -> None:
    arrow, line = 5, 6
    symbols = [20, 21, 22, 23, 24]
    ids = [token for symbol in symbols for token in (symbol, arrow, symbol + 100, line)] + [22, arrow]

    assert ids[attention(torch.tensor(ids))[1][0, -1].argmax()] == 122


def test_other_heads_start_by_finding_the_answer_about_the_latest_word(
    attention: Attentions, episodes: Episodes
) -> None:
    words = ("bab", "gix", "zuv")
    named, answered = 0, 0
    for task in ("BoolQ", "CB", "RTE", "WSC"):
        meanings = dict(zip(words, KINDS[task].meanings * 2, strict=False))
        solved = {word: episodes.turns(task, word, meanings[word])[0] for word in words}
        ends = [
            len(TOKENIZER(text_of(few_shot(task, [solved[word] for word in words[:n]])))["input_ids"])
            for n in (1, 2, 3)
        ]
        for word, end in zip(words, ends, strict=True):
            text = text_of(few_shot(task, [*solved.values(), solved[word]]))
            ids = TOKENIZER(text, return_tensors="pt")["input_ids"][0]
            layers = attention(ids)
            named += TOKENIZER.decode([ids[layers[0][2, -2].argmax()]]).strip() == word
            answered += int(layers[1][1, -2].argmax()) == end - 1

    assert named == 12
    assert answered >= 9


def test_positions_have_unit_circles_at_every_frequency() -> None:
    columns = sinusoids(DEFAULT_SHAPE.width)
    pairs = columns[:, : 2 * len(FREQUENCIES)].reshape(WINDOW, 2, -1)  # (window, 2, frequencies)

    assert columns.shape == (WINDOW, DEFAULT_SHAPE.width)
    assert torch.allclose(pairs.square().sum(1), torch.ones(()), atol=1e-4)
    assert not columns[:, 2 * len(FREQUENCIES) :].any()


def test_learning_rate_warms_up_then_falls() -> None:
    rates = [learning_rate(Recipe(), step, 1000) for step in range(1000)]

    assert max(rates) == pytest.approx(Recipe().peak_rate)
    assert rates[0] == pytest.approx(Recipe().peak_rate / Recipe().warmup)
    assert rates[-1] == pytest.approx(0.05 * Recipe().peak_rate)
