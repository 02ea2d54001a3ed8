"""Choose the decoder of a network: the first one that agrees, in a few trial steps, with a decoder without a cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from icl_eval.models.decoding import GenerateRequest
from icl_eval.models.generation.decoder import BatchDecoder, Decoder, Entry, Tokens, UncachedDecoder
from icl_eval.models.generation.decoding_step import Recorder, cuda_graphs
from icl_eval.models.generation.encoder_decoder import EncodedDecoder, EncoderDecoder, InputsOf, forward_uncached
from icl_eval.models.generation.generation import Generation, Kind, Limits, prompt_of
from icl_eval.models.generation.kv_pool import PooledDecoder, ReadRows
from icl_eval.models.generation.onednn import OneDnnLayers
from icl_eval.models.generation.search import Extension, Search, search_for
from icl_eval.models.loading.devices import on_one_gpu
from icl_eval.models.network import Network, distance, ordinary_tokens, tolerance
from icl_eval.models.tokenization import StopTokens, end_tokens, text_after, text_alone

MakeDecoder = Callable[[], Decoder]


def causal_generation(
    network: Network,
    tokenizer: Any,
    prefill: ReadRows | None,
    *,
    branches: bool,
    precision: str,
    max_length: int,
    cache_invalid: Collection[int],
    limits: Limits,
) -> Generation:
    """The generation of a causal model.

    Args:
        network: the network.
        tokenizer: its tokenizer.
        prefill: runs rows; None if the network's attention cannot be replaced.
        branches: whether prompts can share a branching row at no extra cost.
        precision: the precision of the weights, such as `float32`.
        max_length: the largest number of tokens, including generated ones, of sequences that may share a row.
        cache_invalid: lengths beyond which a sequence has to be recomputed, because cached states become invalid.
        limits: limits of a batch.
    """
    uncached = partial(UncachedDecoder, partial(_forward_uncached, network))
    batched: list[MakeDecoder] = [partial(BatchDecoder, network), partial(BatchDecoder, network, forks=False)]
    vocabulary = int(network.config.vocab_size)
    far = cache(partial(_first_working, batched, uncached, vocabulary, precision))  # tried where it is needed
    recorder = Recorder(cuda_graphs(network.device)) if on_one_gpu(network.model) else None
    decoder = partial(PooledDecoder, network, branches=branches, recorder=recorder)
    pooled: list[MakeDecoder] = [partial(decoder, prefill)] if prefill else []
    near = _first_working(pooled, uncached, vocabulary, precision)
    near = far() if near is uncached else near
    ends, stop_tokens = end_tokens(network.model, tokenizer), StopTokens(tokenizer)

    def kind_of(request: GenerateRequest, generated: int) -> Kind:
        length = len(request.tokens) + generated
        is_far = len(request.tokens) + request.decoding.max_tokens > max_length
        return (int(is_far), sum(length > limit for limit in cache_invalid))

    def search(request: GenerateRequest) -> Search:
        may_stop = stop_tokens.of(request.decoding.stops)
        return search_for(request, ends, text_after(tokenizer, request.tokens), may_stop)

    layers = OneDnnLayers(network.model)
    return Generation(lambda kind: far()() if kind[0] else near(), kind_of, search, limits, layers.used)


def seq2seq_generation(
    encoder_decoder: EncoderDecoder,
    tokenizer: Any,
    inputs_of: InputsOf,
    ends: Callable[[Tokens], frozenset[int]],
    *,
    precision: str,
    vocabulary: int,
    limits: Limits,
) -> Generation:
    """The generation of an encoder-decoder model.

    Args:
        encoder_decoder: the network.
        tokenizer: its tokenizer.
        inputs_of: gives the tokens of the encoder for a prompt, and the first tokens of the decoder.
        ends: gives the tokens that end a text after a prompt.
        precision: the precision of the weights, such as `float32`.
        vocabulary: number of tokens in the vocabulary.
        limits: limits of a batch.
    """
    uncached = partial(UncachedDecoder, partial(forward_uncached, encoder_decoder, inputs_of))
    make = _first_working([partial(EncodedDecoder, encoder_decoder, inputs_of)], uncached, vocabulary, precision)
    text_of, stop_tokens = text_alone(tokenizer), StopTokens(tokenizer)

    def kind_of(request: GenerateRequest, _: int) -> Kind:
        return (len(inputs_of(prompt_of(request))[1]), 0)

    def search(request: GenerateRequest) -> Search:
        return search_for(request, ends(prompt_of(request)), text_of, stop_tokens.of(request.decoding.stops))

    return Generation(lambda _: make(), kind_of, search, limits, OneDnnLayers(encoder_decoder.network.model).used)


def _first_working(
    kinds: Sequence[MakeDecoder], reference: MakeDecoder, vocabulary: int, precision: str
) -> MakeDecoder:
    """The first decoder that agrees with the reference, or the reference."""
    with torch.inference_mode():
        works = (make for make in kinds if agrees(make(), reference(), vocabulary, precision))
        return next(works, reference)


def _forward_uncached(network: Network, entries: Sequence[Entry]) -> torch.Tensor:
    tokens = torch.from_numpy(np.stack([entry.tokens for entry in entries]).astype(np.int64)).to(network.device)
    count, length = tokens.shape
    return network.forward({"input_ids": tokens, "use_cache": False}, torch.arange(1, count + 1) * length - 1)[0]


def trial(decoder: Decoder, vocabulary: int) -> torch.Tensor:
    """The logits of all steps of a trial, in which hypotheses share a prefix, branch, change rows, leave and enter."""
    tokens = ordinary_tokens(32, vocabulary).astype(np.int32)
    none = tokens[:0]
    long, short, late = tokens[:7], np.concatenate([tokens[:3], tokens[9:11]]), tokens[12:16]
    rows = [decoder.enter([Entry(long, none, 3), Entry(short, none, 3)])]
    steps = [(0, 0, 1), (2, 1)] if decoder.joins else [(0, 0, 1), (2, 1), (0, 1)]
    following = iter(tokens[16:].tolist())
    rows += [decoder.step([Extension(row, next(following)) for row in step]) for step in steps]
    if decoder.joins:
        rows.append(decoder.enter([Entry(late, none, len(late))]))
        rows.append(decoder.step([Extension(row, next(following)) for row in (2, 0)]))
        rows.append(decoder.step([Extension(row, next(following)) for row in (1, 0, 1)]))
    return torch.cat(rows)


def agrees(decoder: Decoder, reference: Decoder, vocabulary: int, precision: str) -> bool:
    """Whether a decoder and the reference give the same logits in a trial, up to `tolerance`."""
    reference.joins = decoder.joins
    expected = trial(reference, vocabulary).cpu().numpy()
    try:
        found = trial(decoder, vocabulary).cpu().numpy()
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):
        return False
    return distance(found, expected) <= tolerance(precision) * distance(np.roll(expected, 1, axis=0), expected)
