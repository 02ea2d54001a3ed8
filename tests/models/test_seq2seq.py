from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import normalizers, processors

from icl_eval import Task, evaluate
from icl_eval.engine import Engine
from icl_eval.errors import ModelError, PromptError
from icl_eval.models import (
    Decoding,
    GenerateAnswer,
    GenerateRequest,
    OutOfMemory,
    ScoreRequest,
    load_model,
    wrap_model,
)
from icl_eval.models.generation.decoder import UncachedDecoder
from icl_eval.models.generation.encoder_decoder import EncodedDecoder, forward_uncached
from icl_eval.models.generation.generation import Limits
from icl_eval.models.protocol import LOGITS
from icl_eval.models.seq2seq import Seq2SeqLM
from icl_eval.prompts import encode_apart
from icl_eval.runs.plan import explain

from .black_boxes import answer, contexts_of, crowd, given_to, network, positions_given_to, seq2seq_lm, write
from .kinds import SEQ2SEQ, VOCABULARY, WINDOW, build, sentencepiece, tokenizer_for
from .reference import moments

FREE: tuple[str, ...] = ()


def reference(name: str, request: ScoreRequest) -> list[float]:
    """One request at a time, by `transformers` alone."""
    model, end, begins = network(name), 2 if name == "bart" else 1, [2, 0] if name == "bart" else [0]
    context, continuation = list(request.tokens[: request.boundary]), list(request.tokens[request.boundary :])
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[*context, end]]), decoder_input_ids=torch.tensor([[*begins, *continuation[:-1]]])
        ).logits[0]
    logprobs = logits.log_softmax(dim=-1)[len(begins) - 1 :]
    return [float(logprobs[index, token]) for index, token in enumerate(continuation)]


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_scores_are_those_of_one_request_at_a_time(name: str) -> None:
    requests = contexts_of(name)

    for request, found in zip(requests, answer(seq2seq_lm(name), requests), strict=True):
        assert found.logprobs == pytest.approx(reference(name, request), abs=1e-5)


def test_moments_are_those_of_the_decoders_next_tokens() -> None:
    request, plain = replace(contexts_of("t5")[0], moments=True), contexts_of("t5")[1]
    found, other = answer(seq2seq_lm("t5"), [request, plain])
    context, continuation = list(request.tokens[: request.boundary]), list(request.tokens[request.boundary :])
    with torch.no_grad():
        inputs = torch.tensor([[*context, 1]]), torch.tensor([[0, *continuation[:-1]]])
        rows = network("t5")(input_ids=inputs[0], decoder_input_ids=inputs[1]).logits[0].log_softmax(-1)

    assert pytest.approx(np.array([*map(moments, rows)]), abs=1e-5) == np.array([found.means, found.sds]).T
    assert found.logprobs == pytest.approx(reference("t5", request), abs=1e-5)
    assert other.means == other.sds == ()


def test_greedy_says_whether_every_token_was_the_most_likely() -> None:
    lm, context = seq2seq_lm("t5"), [20, 21, 22]
    with torch.no_grad():
        written = network("t5").generate(torch.tensor([[*context, 1]]), max_new_tokens=3, min_new_tokens=3)[0, 1:]
    tokens = written.tolist()

    right, wrong = answer(
        lm, [ScoreRequest.of(context, tokens), ScoreRequest.of(context, [*tokens[:2], tokens[2] ^ 1])]
    )

    assert right.greedy
    assert not wrong.greedy


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_every_context_is_encoded_once(name: str) -> None:
    model, requests = build(name), contexts_of(name)
    lm = Seq2SeqLM(model, tokenizer_for(name), "tiny", "weights")
    lm.budget.size = 100
    read = given_to(model.get_encoder())

    answer(lm, requests)

    assert len(read) > 1
    assert sum(len(batch) for batch in read) == 7


def test_few_logits_are_held_at_once() -> None:
    model, requests = build("t5"), contexts_of("t5")
    lm = Seq2SeqLM(model, tokenizer_for("t5"), "tiny", "weights")
    lm.vocabulary = LOGITS // 20
    seen = positions_given_to(model.lm_head)

    answer(lm, requests)

    assert max(seen) <= 20
    assert sum(seen) == sum(len(request.tokens) - request.boundary for request in requests)


def test_a_batch_that_generates_holds_as_much_as_one_that_scores() -> None:
    lm = Seq2SeqLM(build("t5"), tokenizer_for("t5"), "tiny", "weights")
    lm.budget.size = 77

    assert lm.generation.limits == Limits(LOGITS // lm.vocabulary, 77, 77)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_what_it_will_read_is_what_it_reads(name: str) -> None:
    model, requests = build(name), contexts_of(name)
    lm = Seq2SeqLM(model, tokenizer_for(name), "tiny", "weights")
    lm.budget.size = 100
    encoder, both = given_to(model.get_encoder()), given_to(model, "decoder_input_ids")

    answer(lm, requests)

    assert lm.computed_tokens(requests) == sum(batch.numel() for batch in (*encoder, *both))


def test_only_scored_positions_reach_the_head() -> None:
    model = build("t5")
    lm = Seq2SeqLM(model, tokenizer_for("t5"), "tiny", "weights")
    seen = positions_given_to(model.lm_head)

    answer(lm, [ScoreRequest.of([20], [21]), ScoreRequest.of([20], [21, 22, 23])])

    assert seen == [4]


def test_continuations_for_a_blank_are_scored_after_its_sentinel() -> None:
    lm, model = seq2seq_lm("t5"), network("t5")
    context = lm.encode(["blue <extra_id_0> sky"])[0]
    assert 3 in context

    (found,) = answer(lm, [ScoreRequest.of(context, [20, 21])])

    with torch.no_grad():
        rows = model(torch.tensor([[*context, 1]]), decoder_input_ids=torch.tensor([[0, 3, 20, 21]])).logits[0]
    logprobs = rows.log_softmax(-1)
    assert found.logprobs == pytest.approx([float(logprobs[1, 20]), float(logprobs[2, 21])], abs=1e-5)


def test_a_token_forced_at_the_beginning_comes_first() -> None:
    model = build("bart")
    model.generation_config.forced_bos_token_id = 33
    context = [0, 20, 21]

    (found,) = answer(Seq2SeqLM(model, tokenizer_for("bart"), "tiny", "w"), [ScoreRequest.of(context, [22])])

    with torch.no_grad():
        rows = model(torch.tensor([[*context, 2]]), decoder_input_ids=torch.tensor([[2, 33]])).logits[0]
    assert found.logprobs == pytest.approx([float(rows.log_softmax(-1)[1, 22])], abs=1e-5)


def test_the_fingerprint_tells_where_the_decoder_begins_and_the_encoder_ends() -> None:
    model, fingerprints = build("bart"), set()
    for forced in (None, 33, 34):
        model.generation_config.forced_bos_token_id = forced
        fingerprints.add(wrap_model(model, tokenizer_for("bart")).fingerprint)
    endless = tokenizer_for("bart")
    endless.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", endless.bos_token_id)]
    )
    fingerprints.add(wrap_model(model, endless).fingerprint)

    assert len(fingerprints) == 4


@pytest.mark.parametrize(("name", "tokens"), [("t5", [[1]]), ("bart", [[0, 2]])])
def test_an_empty_context_is_what_the_tokenizer_makes_of_nothing(name: str, tokens: list[list[int]]) -> None:
    model = build(name)
    lm = Seq2SeqLM(model, tokenizer_for(name), "tiny", "weights")
    (scored,) = encode_apart(lm.encode, [("", " yes")], lm.start, lm.fallback)
    read = given_to(model.get_encoder())

    answer(lm, [ScoreRequest.of(scored.context, scored.continuation)])

    assert [batch.tolist() for batch in read] == [tokens] == [[tokenizer_for(name)("")["input_ids"]]]


@pytest.mark.parametrize(
    ("name", "context", "continuation", "pieces"),
    [
        ("t5", "is it?", " yes", ["▁yes"]),
        ("t5", "is it? ", "yes", ["▁yes"]),
        ("t5", "sky", "ness", ["▁", "ness"]),
        ("bart", "is it?", " yes", ["Ġyes"]),
        ("bart", "is it? ", "no", ["n", "o"]),
        ("bart", "is it?", " no\n", ["Ġno", "Ċ"]),
    ],
)
def test_context_and_continuation_are_encoded_apart(
    name: str, context: str, continuation: str, pieces: list[str]
) -> None:
    lm, tokenizer = seq2seq_lm(name), tokenizer_for(name)

    (scored,) = encode_apart(lm.encode, [(context, continuation)], lm.start, lm.fallback)

    assert tokenizer.convert_ids_to_tokens(scored.continuation) == pieces
    assert scored.context == [*lm.start, *tokenizer(context, add_special_tokens=False)["input_ids"]]


def test_a_tokenizer_that_says_the_first_space_twice_is_given_it_once() -> None:
    """As Llama's first one, which puts a space before every text and then writes all spaces as marks."""
    tokenizer = sentencepiece()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.backend_tokenizer.pre_tokenizer = None
    lm = Seq2SeqLM(network("bart"), tokenizer, "tiny", "weights")

    assert tokenizer.convert_ids_to_tokens(tokenizer(" yes", add_special_tokens=False)["input_ids"]) == ["▁", "▁yes"]
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in lm.encode([" yes", "yes"])] == [["▁yes"], ["▁yes"]]
    whole = tokenizer(["\n\n yes", "\nyes"], add_special_tokens=False)["input_ids"]
    assert lm.encode(["\n\n yes", "\nyes"]) == whole  # the space is not the first character
    assert lm.encode(["  yes"]) == tokenizer([" yes"], add_special_tokens=False)["input_ids"]


def test_a_continuation_without_tokens_is_an_error() -> None:
    lm = seq2seq_lm("t5")

    with pytest.raises(PromptError, match=r"the continuation '\\n' has no tokens"):
        encode_apart(lm.encode, [("a", "\n")], lm.start, lm.fallback)


def test_it_is_a_black_box_that_scores_and_generates() -> None:
    lm = seq2seq_lm("t5")

    assert lm.can_generate
    assert lm.is_encoder_decoder


def test_each_half_has_the_window_for_itself() -> None:
    lm = seq2seq_lm("bart")
    longest = ScoreRequest.of([0] * lm.window, [20] * lm.window)

    (found,) = Engine(lm).answer([longest])

    assert lm.window == WINDOW - 1
    assert found.logprobs == pytest.approx(reference("bart", longest), abs=1e-5)
    message = f"a request takes {WINDOW} tokens, but the context length is {WINDOW - 1}"
    for too_long in (ScoreRequest.of([0] * WINDOW, [20]), ScoreRequest.of([0], [20] * WINDOW)):
        with pytest.raises(ModelError, match=message):
            Engine(lm).answer([too_long])


def test_relative_positions_reach_beyond_the_trained_window() -> None:
    assert seq2seq_lm("t5", window=1000).window == 999
    with pytest.raises(ModelError, match="a context length of 1000 was requested, but that of the model is 64"):
        seq2seq_lm("bart", window=1000)


def test_one_request_that_exceeds_the_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = seq2seq_lm("t5")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lm.model, "forward", full)
    try:
        with pytest.raises(ModelError, match="one request of up to 57 tokens does not fit the device's memory"):
            Engine(lm).answer(contexts_of("t5"))
        with pytest.raises(OutOfMemory):
            lm.score(contexts_of("t5"), lambda *_: None)
    finally:
        monkeypatch.undo()


def prompts_of(name: str, count: int = 6) -> list[list[int]]:
    rng, lm = np.random.default_rng(1), seq2seq_lm(name)
    return [[*lm.start, *rng.integers(10, 80, size).tolist()] for size in rng.integers(1, 40, count)]


def ending(name: str) -> Any:
    """A model whose end token is likely enough to come early, late and never."""
    model = build(name)
    end = 2 if name == "bart" else 1
    with torch.no_grad():
        model.get_output_embeddings().weight[end] *= 3
    return model


def hugging(model: Any, name: str, prompt: list[int], **settings: Any) -> tuple[list[int], float | None]:
    """What the `generate` of `transformers` writes, and the score it gives."""
    end, begins = (2, [2, 0]) if name == "bart" else (1, [0])
    with torch.no_grad():
        output = model.generate(
            torch.tensor([[*prompt, end]]),
            decoder_input_ids=torch.tensor([begins]),
            do_sample=False,
            eos_token_id=end,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
    scores = output.get("sequences_scores")
    return output.sequences[0, len(begins) :].tolist(), None if scores is None else float(scores[0])


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_greedy_search_is_that_of_transformers(name: str) -> None:
    model, tokenizer = ending(name), tokenizer_for(name)
    lm, end = Seq2SeqLM(model, tokenizer, "tiny", "weights"), 2 if name == "bart" else 1
    lm.budget.size = 60

    answers = write(lm, prompts_of(name), Decoding(12, FREE))

    assert isinstance(lm.generation.decoders((1, 0)), EncodedDecoder)
    for prompt, found in zip(prompts_of(name), answers, strict=True):
        tokens, _ = hugging(model, name, prompt, max_new_tokens=12)
        assert found.tokens == (len(tokens),)
        assert found.finished == ("end" if tokens[-1] == end else "length",)
        assert found.texts == (tokenizer.decode([token for token in tokens if token != end]),)


@pytest.mark.parametrize(("name", "alpha"), [("t5", 0.0), *((name, 1.0) for name in SEQ2SEQ)])
def test_beam_search_is_that_of_transformers(name: str, alpha: float) -> None:
    model, tokenizer = ending(name), tokenizer_for(name)
    lm, end = Seq2SeqLM(model, tokenizer, "tiny", "weights"), 2 if name == "bart" else 1

    answers = write(lm, prompts_of(name), Decoding(10, FREE, beams=3, length_penalty=alpha, penalty="power"))

    for prompt, found in zip(prompts_of(name), answers, strict=True):
        tokens, score = hugging(
            model, name, prompt, max_new_tokens=10, num_beams=3, length_penalty=alpha, early_stopping="never"
        )
        assert found.texts == (tokenizer.decode([token for token in tokens if token != end]),)
        assert found.tokens == (len(tokens),)
        assert found.scores[0] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    "decoding",
    [Decoding(8, ("e", "no"), beams=3), Decoding(8, FREE, samples=3, temperature=0.8, top_p=0.9), Decoding(8, ("e",))],
)
def test_generated_texts_do_not_depend_on_batches_or_the_cache(decoding: Decoding) -> None:
    lm, alone, prompts = seq2seq_lm("t5"), seq2seq_lm("t5"), prompts_of("t5")
    alone.budget.size = 1
    forward = partial(forward_uncached, alone._encoder_decoder, alone._inputs.inputs_of)
    alone.generation = replace(alone.generation, decoders=lambda _: UncachedDecoder(forward))
    together = write(lm, prompts, decoding)

    for one, other in zip(together, write(alone, prompts, decoding), strict=True):
        assert (one.texts, one.tokens, one.finished) == (other.texts, other.tokens, other.finished)
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_the_text_of_a_blank_ends_at_the_next_sentinel() -> None:
    model = build("t5")
    with torch.no_grad():
        model.get_output_embeddings().weight[4] *= 4
    lm = Seq2SeqLM(model, tokenizer_for("t5"), "tiny", "weights")
    prompts = [[20, 3, size] for size in range(10, 30)]

    answers = write(lm, prompts, Decoding(20, FREE))

    assert "end" in {found.finished[0] for found in answers}
    for prompt, found in zip(prompts, answers, strict=True):
        with torch.no_grad():
            whole = model.generate(
                torch.tensor([[*prompt, 1]]),
                decoder_input_ids=torch.tensor([[0, 3]]),
                max_new_tokens=20,
                do_sample=False,
                eos_token_id=[1, 4],
            )
        assert found.tokens == (whole.shape[1] - 2,)


def test_a_full_device_halves_the_batch_of_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts, decoding = seq2seq_lm("bart"), prompts_of("bart"), Decoding(6, FREE, beams=2)
    expected, answers = write(lm, prompts, decoding), list[tuple[int, GenerateAnswer]]()
    lm.generation.limits = replace(lm.generation.limits, new_tokens=10**6, states=10**6)
    crowd(monkeypatch, lm.model, lambda settings: len(settings["decoder_input_ids"]) > 4)
    lm.generate([GenerateRequest.of(prompt, decoding) for prompt in prompts], lambda *found: answers.append(found))

    assert sorted(index for index, _ in answers) == list(range(len(prompts)))
    assert all(found.texts == expected[index].texts for index, found in answers)
    assert lm.generation.budget.size < 12


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "t5"
    build("t5").save_pretrained(folder)
    tokenizer_for("t5").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_a_checkpoint_with_encoder_and_decoder_is_loaded_as_one(name: str, tmp_path: Path) -> None:
    network(name).save_pretrained(tmp_path)
    tokenizer_for(name).save_pretrained(tmp_path)

    lm = load_model(str(tmp_path), device="cpu")

    assert isinstance(lm, Seq2SeqLM)
    assert (lm.kind, lm.start, lm.fallback) == ("seq2seq", *(((0,), 0) if name == "bart" else ((), 1)))
    requests = contexts_of(name)
    for request, found in zip(requests, answer(lm, requests), strict=True):
        assert found.logprobs == pytest.approx(reference(name, request), abs=1e-5)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_a_loaded_object_is_of_the_same_kind(name: str) -> None:
    assert wrap_model(network(name), tokenizer_for(name)).kind == "seq2seq"


def test_pseudo_log_likelihood_is_of_masked_models_alone(saved: Path) -> None:
    with pytest.raises(ModelError, match="--pll plain needs a masked language model"):
        load_model(str(saved), device="cpu", pll="plain")


def test_half_precision_has_a_head_in_float32() -> None:
    model = build("bart").to(torch.bfloat16)
    with torch.no_grad():
        hidden = model.model(torch.tensor([[0, 20, 2]]), decoder_input_ids=torch.tensor([[2, 0]])).last_hidden_state
        row = (model.lm_head.weight.double() @ hidden[0, -1].double()).log_softmax(0)

    (found,) = answer(Seq2SeqLM(model, tokenizer_for("bart"), "tiny", "w"), [ScoreRequest.of([0, 20], [30])])

    assert found.logprobs == pytest.approx([float(row[30])], abs=1e-5)


def test_an_evaluation_runs_on_it_and_its_signature_says_so(saved: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": "sample", "shots": [0, 1], "limit": 4, "max_length": 400, "device": "cpu"}

    result = evaluate(saved, "superglue/copa", out=tmp_path / "run", **options)
    again = evaluate(saved, "superglue/copa", out=tmp_path / "run", **options)

    assert len(result.scores) == 2
    for score in result.scores:
        assert "|seq2seq|bos0|w399|float32|" in score.signature
    assert (again.manifest, again.scores) == (result.manifest, result.scores)


def test_an_evaluation_generates_with_it(saved: Path) -> None:
    result = evaluate(saved, sums(), shots=1, device="cpu")

    assert all("|seq2seq|" in score.signature and "|greedy-" in score.signature for score in result.scores)


def test_room_to_generate_takes_none_from_the_prompt(saved: Path) -> None:
    """A prompt of 22 tokens fills the window of the encoder; the answer of 5 goes to the decoder."""
    lm = load_model(str(saved), device="cpu", max_length=23)
    assert len(lm.encode(["Q: 1+1 A: 2\n\nQ: 5+5 A:"])[0]) == 22

    (score,) = evaluate(lm, sums(), shots=1).scores

    assert (lm.window, score.effective_shots) == (22, 1)


def test_the_likelihood_of_a_last_word_after_a_full_window_is_one_request(saved: Path) -> None:
    lm = load_model(str(saved), device="cpu", max_length=31)
    context, continuation = lm.encode(["a" * 29, " abc"])
    assert (len(context), len(continuation)) == (30, 4)

    (score,) = evaluate(lm, last_words("a" * 29, "abc"), shots=0).scores

    expected = sum(reference("t5", ScoreRequest.of(context, continuation)))
    assert score.value == pytest.approx(math.exp(-expected), rel=1e-4)


def test_a_continuation_longer_than_its_context_and_the_window_fills_the_windows_of_both_halves(saved: Path) -> None:
    lm, word = load_model(str(saved), device="cpu", max_length=13), "cdefghij" * 5
    context, continuation = lm.encode(["ab", f" {word}"])
    tokens = [*context, *continuation]
    assert (len(context), len(continuation), lm.window) == (3, 41, 12)

    (score,) = evaluate(lm, last_words("ab", word), shots=0).scores

    cuts = [(0, 3, 15), (3, 15, 27), (15, 27, 39), (27, 39, 44)]  # context, its end, end of what is scored
    parts = [ScoreRequest.of(tokens[start:begin], tokens[begin:end]) for start, begin, end in cuts]
    expected = sum(sum(reference("t5", part)) for part in parts)
    assert math.log(score.value) == pytest.approx(-expected, rel=1e-4)


def last_words(before: str, word: str) -> Task:
    return Task.from_records(
        "last",
        evaluation=[{"before": before, "word": word}],
        prompt="{% block query %}{{ before }}{% endblock %}{% block answer %} {{ option }}{% endblock %}",
        references="word",
        answer="likelihood",
        metrics=["perplexity"],
    )


def test_a_run_is_explained_by_what_both_halves_read(saved: Path) -> None:
    words = Task.from_records(
        "words",
        evaluation=[{"text": "blue sky", "label": 0}],
        prompt="{{ text }}",
        options=["yes", "no"],
        metrics=["accuracy"],
    )

    plan = explain(str(saved), words, shots=0, device="cpu")

    assert plan.workload.requests == 4
    assert plan.workload.one_by_one == 2 * (3 + 1) + 2 * (
        9 + 1
    )  # `blue sky`, `Answer:`, each with </s>; the start token
    assert plan.workload.computed == 2 * 9 + 4 * 1


def sums() -> Task:
    return Task.from_records(
        "sums",
        demonstrations=[{"q": "1+1", "a": "2"}, {"q": "2+2", "a": "4"}],
        evaluation=[{"q": "5+5", "a": "10"}, {"q": "1+2", "a": "3"}],
        prompt="Q: {{ q }} A:",
        references="a",
        answer="text",
        decode={"max_tokens": 5},
        metrics=["squad_em"],
    )


def test_vocabulary_of_the_tokenizers_fits_the_models() -> None:
    assert all(len(tokenizer_for(name)) <= VOCABULARY for name in SEQ2SEQ)


@pytest.mark.parametrize("most", [6, 2])
def test_a_batch_that_exceeds_the_device_is_halved_whatever_the_budget(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, context = seq2seq_lm("t5"), [20, 21, 22, 1]
    requests = [ScoreRequest.of(context, [30, 31, token]) for token in range(32, 40)]
    expected, rows = answer(lm, requests), list[int]()

    def too_much(settings: Mapping[str, Any]) -> bool:
        rows.append(0 if settings.get("decoder_input_ids") is None else len(settings["decoder_input_ids"]))
        return rows[-1] > most

    lm.budget.size = 10**6
    crowd(monkeypatch, lm.model, too_much)

    assert [each.logprobs for each in answer(lm, requests)] == [pytest.approx(e.logprobs, abs=1e-5) for e in expected]
    assert sum(count > most for count in rows) <= 3


def test_a_batch_of_the_decoder_counts_the_states_of_the_encoder() -> None:
    lm = seq2seq_lm("t5")
    lm.budget.size = 40
    requests = [ScoreRequest.of([20] * 9, [30, 31, token]) for token in range(32, 40)]
    waiting = lm._by_context(requests)
    (context,) = waiting

    assert [len(part) for part in lm._parts([context], waiting, requests)] == [40 // (len(context) // 4 + 3)] * 2 + [2]
