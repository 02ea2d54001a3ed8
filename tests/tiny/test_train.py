"""Training: deterministic, blind to the bundled validation records, and exact about which tokens are answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from icl_eval.tiny import MODEL
from tools.tiny.documents import Episodes, symbol_episodes, text_of, validation_identities
from tools.tiny.formats import TASKS, Turn
from tools.tiny.network import DEFAULT_SHAPE, WINDOW, frequencies, initial_model, sinusoids
from tools.tiny.sample import draw_sample, identity
from tools.tiny.train import Encoder, Recipe, Stage, learning_rate, train

SHORT = Recipe(threads=1, texts=300, pool=20, stages=(Stage(5, 32, 4, symbols=0.5, plain_labels=0.5),))


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return Episodes(seed=3, pool=20)


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
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
    encoder = Encoder(tokenizer, text_weight=0.1)
    rng = Random(0)
    sources = (episodes.prompts(rng, 200), symbol_episodes(rng, 25, 0.5, 6))
    for _ in range(100):
        document = next(rng.choice(sources))
        pieces = encoder.document(document)

        assert tokenizer(text_of(document))["input_ids"] == [i for piece in pieces for i in piece.ids][:-1]
        assert pieces[-1].ids == (tokenizer.eos_token_id,)


def test_answers_have_full_weight() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)

    assert Encoder(tokenizer, text_weight=0.1).turn(Turn("bab ->", " north")).weights == (0.1, 0.1, 1.0)


def test_every_task_has_solved_records(episodes: Episodes) -> None:
    assert set(TASKS) == set(episodes.turns)
    assert all(turn.answer.strip() for turns in episodes.turns.values() for turn in turns)


def first_attention(layer: int, ids: torch.Tensor) -> torch.Tensor:
    """Attention of the untrained model `(heads, time, time)`."""
    torch.manual_seed(0)
    model = initial_model(DEFAULT_SHAPE, PreTrainedTokenizerFast.from_pretrained(MODEL))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attention: torch.Tensor = model(input_ids=ids, output_attentions=True).attentions[layer][0]
    return attention


def test_first_heads_start_by_looking_back() -> None:
    attention = first_attention(0, torch.randint(1, 1000, (1, 200), generator=torch.Generator().manual_seed(0)))

    for head, distance in enumerate((1, 2)):
        found = attention[head].argmax(-1)[distance:]
        assert (found == torch.arange(200 - distance)).float().mean() > 0.9


def test_next_head_starts_by_finding_what_followed_the_same_symbol() -> None:
    arrow, line = 5, 6
    symbols = [20, 21, 22, 23, 24]
    ids = [token for symbol in symbols for token in (symbol, arrow, symbol + 100, line)] + [22, arrow]

    found = first_attention(1, torch.tensor([ids]))[0, -1].argmax()

    assert ids[found] == 122


def test_positions_have_unit_circles_at_every_frequency() -> None:
    pairs = sinusoids(DEFAULT_SHAPE.width).reshape(WINDOW, 2, -1)  # (window, 2, frequencies)

    assert pairs.shape == (WINDOW, 2, len(frequencies(DEFAULT_SHAPE.width)))
    assert torch.allclose(pairs.square().sum(1), torch.ones(()), atol=1e-4)


def test_learning_rate_warms_up_then_falls() -> None:
    rates = [learning_rate(Recipe(), step, 1000) for step in range(1000)]

    assert max(rates) == pytest.approx(Recipe().peak_rate)
    assert rates[0] == pytest.approx(Recipe().peak_rate / Recipe().warmup)
    assert rates[-1] == pytest.approx(0.05 * Recipe().peak_rate)
