from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import processors

from icl_eval import Task, evaluate
from icl_eval.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import ScoreRequest, load_model, wrap_model
from icl_eval.models.masked import MaskedLM
from icl_eval.models.protocol import LOGITS, OutOfMemory
from icl_eval.runs.plan import explain

from .architectures import build as build_causal
from .black_boxes import answer, given_to, masked_lm, network, positions_given_to, texts_of
from .checkpoints import byte_tokenizer
from .kinds import MASKED, WINDOW, build, tokenizer_for, wordpiece
from .reference import moments


def words_of(name: str, tokens: list[int]) -> list[int]:
    """Which word each token belongs to, by what its piece looks like; these texts have no hyphens or apostrophes."""
    words, word, before = [], -1, ""
    for piece in tokenizer_for(name).convert_ids_to_tokens(tokens):
        goes_on = piece.startswith("##") if name != "roberta" else piece.isalpha() and before.strip("Ġ").isalpha()
        goes_on = goes_on and not piece.startswith("Ġ") if name == "roberta" else goes_on
        goes_on = goes_on or (name == "roberta" and before == "Ġ" and piece.isalpha())
        word, before = word + (not goes_on), piece
        words.append(word)
    return words


def reference(name: str, request: ScoreRequest, pll: str) -> list[float]:
    """One masked copy at a time, by `transformers` alone."""
    tokenizer, tokens, found = tokenizer_for(name), list(request.tokens), []
    end = tokenizer("a")["input_ids"][-1]
    words = words_of(name, tokens[request.boundary :])
    for index, token in enumerate(tokens[request.boundary :]):
        copy = [*tokens, end]
        for other in range(index, len(words)):
            if other == index or (pll == "l2r" and words[other] == words[index]):
                copy[request.boundary + other] = tokenizer.mask_token_id
        with torch.no_grad():
            row = network(name)(torch.tensor([copy])).logits[0, request.boundary + index]
        found.append(float(row.log_softmax(-1)[token]))
    return found


@pytest.mark.parametrize("pll", ["l2r", "plain"])
@pytest.mark.parametrize("name", MASKED)
def test_scores_are_those_of_one_masked_copy_at_a_time(name: str, pll: Any) -> None:
    requests = texts_of(name)

    for request, found in zip(requests, answer(masked_lm(name, pll=pll), requests), strict=True):
        assert found.logprobs == pytest.approx(reference(name, request, pll), abs=1e-5)


def test_moments_are_those_of_the_masked_tokens() -> None:
    one, other = (ScoreRequest.of([2, 20], continuation) for continuation in ([21, 30], [22, 30]))
    found, plain = answer(masked_lm("bert", pll="plain"), [replace(one, moments=True), other])
    gap, end = tokenizer_for("bert").mask_token_id, 3
    with torch.no_grad():
        rows = network("bert")(torch.tensor([[2, 20, gap, 30, end], [2, 20, 21, gap, end]])).logits.log_softmax(-1)

    expected = np.array([moments(rows[0, 2]), moments(rows[1, 3])])
    assert pytest.approx(expected, abs=1e-5) == np.array([found.means, found.sds]).T
    assert plain.means == plain.sds == ()


def test_later_pieces_of_a_word_are_masked_with_each_of_its_pieces() -> None:
    """By hand: `a unlikely, no` is [CLS] a un ##like ##ly , no [SEP]; scored is what follows `a`."""
    tokenizer, model = wordpiece(), build("bert")
    cls, a, un, like, ly, comma, no, sep, gap = tokenizer.convert_tokens_to_ids(
        ["[CLS]", "a", "un", "##like", "##ly", ",", "no", "[SEP]", "[MASK]"]
    )
    copies = [
        ([cls, a, gap, gap, gap, comma, no, sep], 2, un),
        ([cls, a, un, gap, gap, comma, no, sep], 3, like),
        ([cls, a, un, like, gap, comma, no, sep], 4, ly),
        ([cls, a, un, like, ly, gap, no, sep], 5, comma),
        ([cls, a, un, like, ly, comma, gap, sep], 6, no),
    ]
    with torch.no_grad():
        rows = model(torch.tensor([copy for copy, _, _ in copies])).logits.log_softmax(-1)
    expected = [float(rows[row, index, token]) for row, (_, index, token) in enumerate(copies)]
    lm, read = masked_lm("bert", model), given_to(model)

    (found,) = answer(lm, [ScoreRequest.of([cls, a], [un, like, ly, comma, no])])

    assert found.logprobs == pytest.approx(expected, abs=1e-5)
    assert sorted(row for batch in read for row in batch.tolist()) == sorted(copy for copy, _, _ in copies)


def test_the_pieces_of_a_word_in_the_context_are_not_masked() -> None:
    tokenizer = wordpiece()
    cls, un, like, ly, sep, gap = tokenizer.convert_tokens_to_ids(["[CLS]", "un", "##like", "##ly", "[SEP]", "[MASK]"])
    with torch.no_grad():
        row = network("bert")(torch.tensor([[cls, un, gap, gap, sep]])).logits[0, 2].log_softmax(-1)

    (found,) = answer(masked_lm("bert"), [ScoreRequest.of([cls, un], [like, ly])])

    assert found.logprobs[0] == pytest.approx(float(row[like]), abs=1e-5)


def test_equal_masked_copies_are_computed_once() -> None:
    lm = masked_lm("bert", build("bert"))
    lm.budget.size = 10**6
    read = given_to(lm.model)

    answer(lm, [ScoreRequest.of([2, 20, 21], [token]) for token in range(30, 50)])

    assert [batch.shape for batch in read] == [(1, 5)]


def test_no_batch_exceeds_the_budget_of_tokens() -> None:
    lm = masked_lm("bert", build("bert"))
    lm.budget.size = 22
    read = given_to(lm.model)

    answer(lm, [ScoreRequest.of([2, 20, token], [40]) for token in range(21, 31)])

    assert [tuple(batch.shape) for batch in read] == [(4, 5), (4, 5), (2, 5)]


def test_no_batch_exceeds_the_budget_of_logits() -> None:
    lm = masked_lm("bert", build("bert"))
    lm.vocabulary = LOGITS // 3
    seen = positions_given_to(lm.model.get_output_embeddings())

    answer(lm, [ScoreRequest.of([2, 20, 21], [token]) for token in range(30, 38)])

    assert seen == [3, 3, 2]


def test_only_masked_positions_reach_the_head() -> None:
    lm = masked_lm("bert", build("bert"))
    seen = positions_given_to(lm.model.get_output_embeddings())

    answer(lm, [ScoreRequest.of([2, 20, 21], [30, 31]), ScoreRequest.of([2, 20], [30])])

    assert seen == [3]


def test_what_it_will_read_is_what_it_reads() -> None:
    lm, requests = masked_lm("roberta", build("roberta")), texts_of("roberta")
    read = given_to(lm.model)

    answer(lm, requests)

    assert lm.computed_tokens(requests) == sum(batch.numel() for batch in read)


def test_greedy_says_whether_every_masked_token_was_the_most_likely() -> None:
    lm = masked_lm("distilbert")
    with torch.no_grad():
        row = network("distilbert")(torch.tensor([[2, 20, 21, 4, 3]])).logits[0, 3]
    best, other = row.topk(2).indices.tolist()

    assert [
        found.greedy for found in answer(lm, [ScoreRequest.of([2, 20, 21], [token]) for token in (best, other)])
    ] == [
        True,
        False,
    ]


@pytest.mark.parametrize("name", MASKED)
def test_the_window_holds_all_special_tokens(name: str) -> None:
    """RoBERTa counts positions from the one after its padding token's id: of 66 it has 64."""
    lm = masked_lm(name, pll="plain")
    longest = ScoreRequest.of([lm.start[0], *[20] * (lm.window - 2)], [21, 22])

    (found,) = Engine(lm).answer([longest])

    assert len(longest.tokens) + 1 == WINDOW
    assert found.logprobs == pytest.approx(reference(name, longest, "plain"), abs=1e-5)
    with pytest.raises(ModelError, match=f"the context length is {WINDOW - 2}"):
        Engine(lm).answer([ScoreRequest.of([20] * (WINDOW - 2), [21, 22])])


def test_it_is_a_black_box_that_scores_and_cannot_generate() -> None:
    lm = masked_lm("bert")

    assert not lm.can_generate
    assert (lm.kind, masked_lm("bert", pll="plain").kind) == ("pll-l2r", "pll")
    assert lm.fingerprint != masked_lm("bert", pll="plain").fingerprint


def test_one_copy_that_exceeds_the_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = masked_lm("bert")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(lm.model), "forward", full)
    with pytest.raises(ModelError, match="one request of up to 3 tokens does not fit the device's memory"):
        Engine(lm).answer([ScoreRequest.of([2, 20], [21])])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "bert"
    build("bert", max_position_embeddings=512).save_pretrained(folder)
    tokenizer_for("bert").save_pretrained(folder)
    return folder


def test_a_checkpoint_with_a_masked_head_is_loaded_as_one(saved: Path) -> None:
    lm = load_model(str(saved), device="cpu")

    assert (lm.kind, lm.start, lm.window, lm.precision) == ("pll-l2r", (2,), 510, "float32")
    assert load_model(str(saved), device="cpu", pll="plain").kind == "pll"


@pytest.mark.parametrize("name", MASKED)
def test_a_saved_model_scores_as_the_one_in_memory(name: str, tmp_path: Path) -> None:
    network(name).save_pretrained(tmp_path)
    tokenizer_for(name).save_pretrained(tmp_path)
    requests = texts_of(name)

    found = answer(load_model(str(tmp_path), device="cpu"), requests)

    assert [each.logprobs for each in found] == [
        pytest.approx(each.logprobs, abs=1e-5) for each in answer(masked_lm(name), requests)
    ]


@pytest.mark.parametrize("name", MASKED)
def test_a_loaded_object_is_of_the_same_kind(name: str) -> None:
    assert wrap_model(network(name), tokenizer_for(name)).kind == "pll-l2r"
    assert wrap_model(network(name), tokenizer_for(name), pll="plain").kind == "pll"


def test_a_causal_model_is_causal_whatever_its_family() -> None:
    config = hf.BertConfig(**{**MASKED["bert"][1], "is_decoder": True})
    decoder = hf.BertLMHeadModel(config).eval()  # type: ignore[no-untyped-call]

    assert wrap_model(decoder, wordpiece()).kind == "causal"
    assert wrap_model(build_causal("gpt2"), byte_tokenizer()).kind == "causal"


def test_a_checkpoint_that_nothing_serves_is_reported_in_one_sentence(tmp_path: Path) -> None:
    hf.ViTConfig(architectures=["ViTForImageClassification"]).save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)

    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path), device="cpu")

    assert str(caught.value) == (
        f"'{tmp_path}' is a checkpoint of vit (ViTForImageClassification), "
        "which is not a causal, encoder-decoder or masked language model of text"
    )


def test_speech_to_text_is_no_language_model_of_text(tmp_path: Path) -> None:
    hf.WhisperConfig(architectures=["WhisperForConditionalGeneration"]).save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)

    with pytest.raises(ModelError, match=r"is a checkpoint of whisper \(WhisperForConditionalGeneration\)"):
        load_model(str(tmp_path), device="cpu")


def test_a_masked_model_needs_a_mask() -> None:
    with pytest.raises(ModelError, match="needs a mask"):
        wrap_model(network("bert"), byte_tokenizer())


def test_the_fingerprint_tells_the_mask_and_the_end() -> None:
    other, endless = wordpiece(), wordpiece()
    other.mask_token = "[UNK]"
    endless.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", endless.cls_token_id)]
    )

    assert len({wrap_model(network("bert"), each).fingerprint for each in (wordpiece(), other, endless)}) == 3


def test_an_unknown_masking_rule_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="`pll` cannot be 'r2l'"):
        load_model(str(saved), device="cpu", pll="r2l")


def test_an_evaluation_runs_on_it_and_its_signature_says_so(saved: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": "sample", "shots": [0, 1], "limit": 4, "device": "cpu"}

    result = evaluate(saved, "superglue/copa", out=tmp_path / "l2r", **options)
    again = evaluate(saved, "superglue/copa", out=tmp_path / "l2r", **options)
    plain = evaluate(saved, "superglue/copa", pll="plain", **options)

    assert len(result.scores) == 2
    assert all("|pll-l2r|bos1|w510|float32|" in score.signature for score in result.scores)
    assert all("|pll|bos1|w510|float32|" in score.signature for score in plain.scores)
    assert (again.manifest, again.scores) == (result.manifest, result.scores)


def test_a_pair_takes_the_masking_rule() -> None:
    result = evaluate((network("bert"), wordpiece()), colours(), shots=0, pll="plain")

    assert "|pll|" in result.scores[0].signature


def test_a_run_is_explained_by_its_masked_copies(saved: Path) -> None:
    plan = explain(str(saved), colours(), shots=0, device="cpu")

    assert plan.workload.requests == 4
    assert plan.workload.one_by_one == 2 * 5 + 2 * (7 + 1 + 2)  # [CLS] sky blue [MASK] [SEP]; Answer: by letter
    assert plan.workload.computed == 10 + 5 + 5


def test_generative_tasks_are_refused_before_the_model_runs(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("it got requests")

    monkeypatch.setattr(MaskedLM, "score", fail)
    sums = Task.from_records(
        "sums", evaluation=[{"q": "1+1", "a": "2"}], prompt="{{ q }}", references="a", answer="text"
    )

    with pytest.raises(ModelError) as caught:
        evaluate(saved, [colours(), sums], shots=0, device="cpu", out=tmp_path / "mixed")

    assert str(caught.value) == f"{saved} cannot generate text (pll-l2r), which sums needs"


def test_a_likelihood_is_a_pseudo_likelihood(saved: Path) -> None:
    task = Task.from_records(
        "last",
        evaluation=[{"before": "the sky is", "word": "blue"}],
        prompt="{% block query %}{{ before }}{% endblock %}{% block answer %} {{ option }}{% endblock %}",
        references="word",
        answer="likelihood",
        metrics=["perplexity"],
    )
    lm = load_model(str(saved), device="cpu")
    tokenizer, model = wordpiece(), build("bert", max_position_embeddings=512)
    ids = tokenizer("the sky is [MASK]")["input_ids"]
    with torch.no_grad():
        row = model(torch.tensor([ids])).logits[0, -2].log_softmax(-1)

    (score,) = evaluate(lm, task, shots=0).scores

    assert score.value == pytest.approx(math.exp(-row[tokenizer.convert_tokens_to_ids("blue")]), rel=1e-4)


def colours() -> Task:
    return Task.from_records(
        "colours",
        evaluation=[{"text": "sky blue", "label": 0}],
        prompt="{{ text }}",
        options=["yes", "no"],
        metrics=["accuracy"],
    )


def test_the_heads_that_bert_is_published_with_may_be_unused(tmp_path: Path) -> None:
    model = build("bert")
    kind: Any = hf.BertForPreTraining
    kind(model.config).save_pretrained(tmp_path)
    tokenizer_for("bert").save_pretrained(tmp_path)

    assert load_model(str(tmp_path), device="cpu").kind == "pll-l2r"


class Small:
    """A device that a model's batch fills beyond some tokens."""

    def __init__(self, model: Any, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        forward = type(model).forward

        def limited(module: Any, input_ids: torch.Tensor, **inputs: Any) -> Any:
            self.batches.append(input_ids.numel())
            if input_ids.numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(module, input_ids=input_ids, **inputs)

        monkeypatch.setattr(type(model), "forward", limited)


def test_a_batch_that_exceeds_the_device_is_halved_whatever_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = masked_lm("bert")
    requests = [ScoreRequest.of([2, 20, token], [40]) for token in range(21, 29)]
    expected = answer(lm, requests)
    lm.budget.size = 10**6
    device = Small(lm.model, 20, monkeypatch)

    assert [each.logprobs for each in answer(lm, requests)] == [
        pytest.approx(each.logprobs, abs=1e-5) for each in expected
    ]
    assert device.batches == [40, 20, 20]


def test_a_single_copy_that_exceeds_the_device_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = masked_lm("bert")
    lm.budget.size = 10**6
    device = Small(lm.model, 4, monkeypatch)

    with pytest.raises(OutOfMemory):
        answer(lm, [ScoreRequest.of([2, 20, 21], [token]) for token in range(30, 50)])
    assert device.batches == [5]
