from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, OutOfMemory, wrap_model
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.generation.decoder import BatchDecoder, Entry, UncachedDecoder
from icl_eval.models.generation.kv_pool import EXTRA_SLOTS, MIN_PREFIX, PooledDecoder
from icl_eval.models.generation.search import Extension
from icl_eval.models.network import Network, float32_head

from .architectures import CONFIGS, VOCABULARY, WINDOW, build
from .black_boxes import Waits, crowd, write
from .checkpoints import letter, letter_tokenizer
from .reference import written

ENDS = {1, 2}  # the tokenizer's and the models'
FREE: tuple[str, ...] = ()
LONG = 2 * WINDOW  # room for a prefix that is cached
STOPS = tuple(letter(token) for token in range(3, VOCABULARY, 6))
LIMITED = ("sliding_window", "window_size", "attention_window_size", "rope_parameters")  # what changes with length
POOLED = {
    "gpt2",
    "gpt_neox",
    "opt",
    "opt_projected",
    "llama",
    "llama_tied",
    "mistral",
    "mistral_sliding",
    "mixtral",
    "gemma",
    "gemma2",
    "gemma2_capped",
    "gemma3",
    "gemma3_narrow",
    "gpt_oss",
    "qwen2",
    "qwen2_sliding",
    "qwen3",
    "phi",
    "phi3_longrope",
    "phi3_sliding",
    "cohere",
}

UNCACHED = {"recurrent_gemma", "rwkv"}  # keep states inside, or under another name
COMPARED = ["llama", "gemma3", "bloom", "jamba"]  # also without a cache


def causal(model: Any, **changes: Any) -> CausalLM:
    return CausalLM(model, letter_tokenizer(), "tiny", "weights", **{"bos": False, "window": WINDOW, **changes})


@cache
def sharp(name: str, window: int = WINDOW) -> Any:
    changes = {} if window == WINDOW else {"max_position_embeddings": window}
    return build(name, sharpness=3.0, **changes)


@cache
def probed(name: str, window: int = WINDOW) -> CausalLM:
    return causal(sharp(name, window), window=window)


def sharp_lm(name: str, window: int = WINDOW) -> CausalLM:
    """Such a model with budgets of its own; its decoders are chosen once."""
    lm = copy(probed(name, window))
    lm.generation = replace(probed(name, window).generation)
    return lm


def without_tree_attention(name: str) -> CausalLM:
    """Such a model before it chooses its decoders, whose rows do not branch."""
    lm = copy(probed(name))
    vars(lm).pop("generation", None)
    lm.has_tree_attention = False
    return lm


@cache
def paths(name: str) -> dict[str, CausalLM]:
    """One model with the best decoder that it can have.

    With a pool, also in rows that do not branch and on its own cache; some models without a cache.
    """
    first = sharp_lm(name)
    found = {"first": first}
    if name in POOLED:
        found["plain"] = without_tree_attention(name)
        found["batched"] = causal(sharp(name), own_attention=True)
    if name in COMPARED:
        found["uncached"] = without_cache(first)
    return found


def without_cache(lm: CausalLM) -> CausalLM:
    """The same model, which computes every hypothesis from its first token."""

    def forward(entries: Sequence[Entry]) -> torch.Tensor:
        tokens = torch.from_numpy(np.stack([entry.tokens for entry in entries]).astype(np.int64))
        logits: torch.Tensor = lm.model(tokens, use_cache=False).logits[:, -1].float()
        return logits

    found = copy(lm)
    found.generation = replace(lm.generation, decoders=lambda _: UncachedDecoder(forward))
    return found


def decoder_of(lm: CausalLM) -> type:
    """Of prompts that may share a row."""
    return type(lm.generation.decoders((0, 0)))


def prompts_of(seed: int, count: int = 7, longest: int = 40) -> list[list[int]]:
    """Prompts of very different lengths that share beginnings: a prefix of another, twins, unrelated ones."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(3, VOCABULARY, longest // 2).tolist(), [5]]
    while len(texts) < count - 2:
        parent = texts[rng.integers(len(texts))]
        tail = rng.integers(3, VOCABULARY, rng.integers(1, longest // 2)).tolist()
        texts.append((parent[: rng.integers(1, len(parent) + 1)] + tail)[:longest])
    return [*texts, texts[2][: max(1, len(texts[2]) // 2)], texts[2]]


def text_of(tokens: list[int]) -> str:
    return "".join(letter(token) for token in tokens if token not in ENDS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_path_generates_what_the_reference_does(name: str) -> None:
    """Within the reach of sliding attention, from there to beyond it, and all beyond it."""
    prompts = prompts_of(len(name), count=5)
    most = 14 if any(CONFIGS[name][1].get(setting) for setting in LIMITED) else 6
    counts = [3 if index % 2 else most for index in range(len(prompts))]
    expected = [written(sharp(name), prompt, count, ENDS) for prompt, count in zip(prompts, counts, strict=True)]

    own_cache = UncachedDecoder if name in UNCACHED else BatchDecoder
    assert decoder_of(paths(name)["first"]) is (PooledDecoder if name in POOLED else own_cache)
    assert decoder_of(paths(name).get("batched", paths(name)["first"])) is own_cache
    for path, lm in paths(name).items():
        answers = write(lm, prompts, *(Decoding(count, FREE) for count in counts))
        for (tokens, logprob), answer in zip(expected, answers, strict=True):
            assert answer.texts == (text_of(tokens),), path
            assert answer.tokens == (len(tokens),)
            assert answer.scores[0] == pytest.approx(logprob, abs=2e-4)
            assert answer.finished == ("end" if tokens[-1] in ENDS else "length",)


@pytest.mark.parametrize("decoding", [Decoding(12, FREE, beams=3), Decoding(12, temperature=0.8, samples=3, top_p=0.9)])
@pytest.mark.parametrize("name", COMPARED)
def test_all_paths_agree_on_beams_and_samples(name: str, decoding: Decoding) -> None:
    found = {path: write(lm, prompts_of(3), decoding) for path, lm in paths(name).items()}

    for answers in found.values():
        for answer, other in zip(answers, found["uncached"], strict=True):
            assert (answer.texts, answer.tokens, answer.finished) == (other.texts, other.tokens, other.finished)
            assert answer.scores == pytest.approx(other.scores, abs=1e-4)


@pytest.mark.parametrize("shared", [5, MIN_PREFIX])
def test_what_is_cached_or_reserved_changes_nothing(shared: int) -> None:
    prefix = np.random.default_rng(shared).integers(3, VOCABULARY, shared).tolist()
    prompts = [[*prefix, *prompt] for prompt in prompts_of(11, count=9, longest=30)]
    lm = sharp_lm("llama", LONG)
    lm.generation.limits = replace(lm.generation.limits, new_tokens=shared + 30)
    uncached = without_cache(lm)
    decoding = Decoding(EXTRA_SLOTS + 8, FREE, beams=4)

    answers = write(lm, prompts, decoding)

    assert max(answer.tokens[0] for answer in answers) == EXTRA_SLOTS + 8  # so the pool grows more than once
    for answer, other in zip(answers, write(uncached, prompts, decoding), strict=True):
        assert (answer.texts, answer.tokens, answer.finished) == (other.texts, other.tokens, other.finished)
        assert answer.scores == pytest.approx(other.scores, abs=1e-4)


class Growth(TorchFunctionMode):
    """How many of the states that were padded before are still in memory, whenever one is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[int] = []
        self.before: list[weakref.ref[torch.Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        if function is torch.nn.functional.pad:
            self.alive.append(sum(each() is not None for each in self.before))
            self.before.append(weakref.ref(args[0]))
        return function(*args, **named or {})


def test_a_pool_that_grows_is_never_in_memory_twice() -> None:
    lm = sharp_lm("llama")

    with Growth() as growth:
        write(lm, [[3, 4], [5]], Decoding(EXTRA_SLOTS + 8, FREE))

    assert len(growth.alive) >= 4  # keys and values of two layers
    assert max(growth.alive) <= 1


@pytest.mark.parametrize(
    "decoding", [Decoding(10, STOPS), Decoding(10, STOPS, beams=4), Decoding(10, samples=3, temperature=1.0)]
)
@pytest.mark.parametrize("name", ["llama", "mistral_sliding", "mpt"])
def test_generated_texts_do_not_depend_on_company_or_order(name: str, decoding: Decoding) -> None:
    lm, prompts = sharp_lm(name), prompts_of(5, count=5)
    together = write(lm, prompts, decoding)

    backwards = write(lm, prompts[::-1], decoding)[::-1]
    alone = [write(lm, [prompt], decoding)[0] for prompt in prompts]

    for answer, *others in zip(together, backwards, alone, strict=True):
        for other in others:
            assert (other.texts, other.tokens, other.finished) == (answer.texts, answer.tokens, answer.finished)
            assert other.scores == pytest.approx(answer.scores, abs=1e-4)


def test_every_text_of_a_batch_ends_at_its_stop_string() -> None:
    """Where rows met different ones of the stop strings, an evaluation harness let all of them run on."""
    lm, prompts = sharp_lm("llama"), prompts_of(2, count=6)
    whole = [answer.texts[0] for answer in write(lm, prompts, Decoding(12, FREE))]
    stops = (whole[0][2:4], whole[1][4:6], whole[3][0])

    answers = write(lm, prompts, Decoding(12, stops))

    for text, answer in zip(whole, answers, strict=True):
        cut = min((text.find(stop) for stop in stops if stop in text), default=len(text))
        assert answer.texts == (text[:cut],)
        assert (answer.finished == ("stop",)) == (cut < len(text))
    assert len({answer.tokens for answer in answers}) > 2


def test_texts_that_have_ended_cost_nothing() -> None:
    lm, prompts = sharp_lm("llama"), [[5, 6, 7], [5, 6, 8], [9, 5]]
    answers = write(lm, prompts, Decoding(12, STOPS))
    fed = count_tokens(lm.model)

    assert write(lm, prompts, Decoding(12, STOPS)) == answers

    assert len({answer.tokens for answer in answers}) > 1
    assert sum(fed) == 6 + sum(answer.tokens[0] - 1 for answer in answers)


@pytest.mark.parametrize("beams", [1, 4])
def test_what_prompts_share_is_read_once(beams: int) -> None:
    trunk = np.random.default_rng(0).integers(3, VOCABULARY, MIN_PREFIX).tolist()
    lm = sharp_lm("llama", LONG)
    prompts = [[*trunk, first, second] for first in (3, 4) for second in (5, 6, 7)]
    lm.generation.budget.size = 4 * beams  # four prompts at once
    fed = count_tokens(lm.model)

    write(lm, prompts, Decoding(1, FREE, beams=beams))

    assert sum(fed) == len(trunk) + (1 + 3 + 1 + 1) + (1 + 2)


def test_a_prompt_may_be_what_all_others_begin_with() -> None:
    trunk = np.random.default_rng(0).integers(3, VOCABULARY, MIN_PREFIX).tolist()
    prompts = [trunk, [*trunk, 10], [*trunk, 11, 12]]
    lm = sharp_lm("llama", LONG)

    answers = write(lm, prompts, Decoding(6, FREE))

    assert decoder_of(lm) is PooledDecoder
    assert [answer.texts for answer in answers] == [
        (text_of(written(sharp("llama", LONG), prompt, 6, ENDS)[0]),) for prompt in prompts
    ]


@pytest.mark.parametrize("name", ["gpt2", "falcon", "mamba", "rwkv"])
def test_a_single_prompt_is_computed_once_if_the_model_has_a_cache_that_works(name: str) -> None:
    model = build(name, sharpness=3.0)
    lm = causal(model, own_attention=True)
    assert lm.generation
    fed = count_tokens(model)

    (answer,) = write(lm, [[5, 6, 7, 8]], Decoding(5, FREE))

    once = 4 + answer.tokens[0] - 1
    assert sum(fed) == (sum(range(4, once + 1)) if name in UNCACHED else once)


def count_tokens(model: Any) -> list[int]:
    """Grows by the number of tokens that the model reads."""
    fed: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: fed.append(inputs[0].numel()))
    return fed


def hugging(model: Any, prompt: list[int], **settings: Any) -> tuple[list[int], float | None]:
    """What the `generate` of `transformers` writes, without its end token, and the score it gives."""
    with torch.no_grad():
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            eos_token_id=sorted(ENDS),
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
    tokens = output.sequences[0, len(prompt) :].tolist()
    scores = output.get("sequences_scores")
    return tokens, None if scores is None else float(scores[0])


@pytest.mark.parametrize(
    ("name", "beams", "alpha"), [("gpt2", 2, 0.0), ("gpt2", 4, 1.0), ("llama", 4, 0.6), ("llama", 2, 2.0)]
)
def test_beam_search_is_that_of_transformers(name: str, beams: int, alpha: float) -> None:
    model, prompts = build(name, sharpness=2.0), prompts_of(beams)
    with torch.no_grad():  # an end is likely enough to come early, late and never
        model.get_output_embeddings().weight[1] *= 3
    decoding = Decoding(16, FREE, beams=beams, length_penalty=alpha, penalty="power")

    answers = write(causal(model), prompts, decoding)

    for prompt, answer in zip(prompts, answers, strict=True):
        tokens, score = hugging(
            model, prompt, max_new_tokens=16, num_beams=beams, length_penalty=alpha, early_stopping="never"
        )
        assert answer.tokens == (len(tokens),)
        assert answer.texts == (text_of(tokens),)
        assert answer.scores[0] == pytest.approx(score, abs=1e-4)


def test_greedy_search_is_that_of_transformers() -> None:
    model, prompts = sharp("llama"), prompts_of(9)

    for prompt, answer in zip(prompts, write(causal(model), prompts, Decoding(16, FREE)), strict=True):
        tokens, _ = hugging(model, prompt, max_new_tokens=16)
        assert answer.tokens == (len(tokens),)
        assert answer.texts == (text_of(tokens),)


@cache
def texts_of_transformers(name: str, shared: int, beams: int) -> list[tuple[list[int], list[int]]]:
    """12 prompts of very different lengths, and what `transformers` generates after each alone."""
    prompts = [[*range(3, 3 + shared), *prompt] for prompt in prompts_of(beams, count=12, longest=30)]
    settings = {"num_beams": beams, "early_stopping": "never", "length_penalty": 1.0} if beams > 1 else {}
    return [(prompt, hugging(sharp(name, LONG), prompt, max_new_tokens=8, **settings)[0]) for prompt in prompts]


@pytest.mark.parametrize(
    ("name", "shared", "beams"),
    [
        ("llama", MIN_PREFIX, 1),
        ("mistral_sliding", MIN_PREFIX, 3),
        ("gptj", 0, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product(["llama", "mistral_sliding", "gptj"], [0, MIN_PREFIX], [1, 3])
            if case not in {("llama", MIN_PREFIX, 1), ("mistral_sliding", MIN_PREFIX, 3), ("gptj", 0, 1)}
        ),
    ],
)
def test_no_batch_size_changes_what_transformers_generates(name: str, shared: int, beams: int) -> None:
    """With a pool, across a sliding window, and on the model's own cache."""
    expected, lm = texts_of_transformers(name, shared, beams), sharp_lm(name, LONG)
    for size in (1, 7, 12):
        lm.generation.budget.size = size * beams
        decoding = Decoding(8, FREE, beams=beams, length_penalty=1.0, penalty="power")
        answers = write(lm, [prompt for prompt, _ in expected], decoding)
        for (_, tokens), answer in zip(expected, answers, strict=True):
            assert (answer.texts, answer.tokens) == ((text_of(tokens),), (len(tokens),)), size


def test_prompts_enter_as_others_leave() -> None:
    lm, prompts = sharp_lm("llama"), prompts_of(1, count=12)
    counts = [2 if index % 2 else 12 for index in range(len(prompts))]
    lm.generation.budget.size = 4
    batches = [each for each in step_sizes(lm, prompts, counts) if each > 1]

    assert len(batches) < sum(counts) / 4 * 1.5
    assert max(batches) == 4


def step_sizes(lm: CausalLM, prompts: list[list[int]], counts: list[int]) -> list[int]:
    """How many hypotheses each step of a decoder had."""
    sizes: list[int] = []
    make = lm.generation.decoders

    def watched(kind: Any) -> Any:
        decoder: Any = make(kind)
        step = decoder.step

        def counted(extensions: Any) -> Any:
            sizes.append(len(extensions))
            return step(extensions)

        decoder.step = counted
        return decoder

    lm.generation.decoders = watched
    write(lm, prompts, *(Decoding(count, FREE) for count in counts))
    return sizes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_coarse_weights_generate_by_their_head_in_float32(name: str, dtype: torch.dtype) -> None:
    model = build(name).to(dtype)
    with torch.no_grad():
        hidden = model.base_model(torch.tensor([[5, 6, 7]])).last_hidden_state[0, -1]
        row = (model.lm_head.weight.double() @ hidden.double()).log_softmax(0)

    (answer,) = write(causal(model), [[5, 6, 7]], Decoding(1, FREE))

    assert answer.scores[0] == pytest.approx(float(row.max()), abs=1e-6)
    assert answer.texts == (letter(int(row.argmax())),)


def test_coarse_weights_generate_side_by_side() -> None:
    lm = causal(build("llama", sharpness=3.0).to(torch.bfloat16))

    answers = write(lm, prompts_of(4), Decoding(8, FREE, beams=2))

    assert decoder_of(lm) is PooledDecoder
    assert all(answer.scores[0] < 0 for answer in answers)


@pytest.mark.parametrize("most", [8, 3])
def test_a_full_device_halves_the_prompts_at_once_and_no_answer_comes_twice(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    lm, prompts = sharp_lm("llama"), prompts_of(6, count=12)
    expected, answers = write(lm, prompts, Decoding(6, beams=2)), list[tuple[int, GenerateAnswer]]()

    def too_much(settings: Mapping[str, Any]) -> bool:
        return settings["input_ids"].numel() > most and not settings.get("use_cache")

    crowd(monkeypatch, lm.model, too_much)
    lm.generate([GenerateRequest.of(prompt, Decoding(6, beams=2)) for prompt in prompts], lambda *a: answers.append(a))

    assert sorted(index for index, _ in answers) == list(range(len(prompts)))
    for index, answer in answers:
        assert answer.texts == expected[index].texts
        assert answer.scores == pytest.approx(expected[index].scores, abs=1e-4)
    assert 1 <= lm.generation.budget.size <= most


def test_one_prompt_that_exceeds_the_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = sharp_lm("llama")
    write(lm, [[5]], Decoding(1))

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lm.model, "forward", full)
    with pytest.raises(OutOfMemory):
        write(lm, prompts_of(0), Decoding(4))


@pytest.mark.parametrize("branches", [True, False])
def test_no_step_waits_for_a_device(branches: bool) -> None:
    lm = sharp_lm("llama") if branches else without_tree_attention("llama")
    decoder, none = lm.generation.decoders((0, 0)), np.empty(0, np.int32)
    first, second = (np.arange(start, start + 5, dtype=np.int32) for start in (3, 9))
    assert isinstance(decoder, PooledDecoder)

    with torch.inference_mode(), Waits() as waits:
        decoder.enter([Entry(first, none, 3), Entry(second, none, 0)])
        decoder.step([Extension(1, 5), Extension(0, 6), Extension(1, 7)])
        decoder.step([Extension(1, 5)])
        decoder.enter([Entry(first, none, 5)])

    assert waits.found == []


def test_weights_that_are_not_numbers_are_reported() -> None:
    model = build("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="are not numbers"):
        write(causal(model), [[5, 6]], Decoding(4))


def test_what_ends_a_text_is_part_of_a_wrapped_models_fingerprint() -> None:
    model = build("llama")
    first = wrap_model(model, letter_tokenizer()).fingerprint
    model.generation_config.eos_token_id = [2, 7]

    assert wrap_model(model, letter_tokenizer()).fingerprint != first


def test_a_cached_head_gives_what_the_head_gives() -> None:
    network = Network(build("llama").to(torch.bfloat16))
    inputs, indices = {"input_ids": torch.tensor([[5, 6, 7]])}, torch.tensor([1, 2])
    with torch.inference_mode():
        expected = network.forward(inputs, indices)[0]
        with float32_head():
            first, again = (network.forward(inputs, indices)[0] for _ in range(2))

    assert expected.dtype == torch.float32
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.equal(first, again)
