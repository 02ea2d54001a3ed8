"""Models without weights, from a configuration and a tokenizer: runs can be planned with them, but not computed.

They are on the meta device, where tensors have shapes but no values, so a model of any size takes no memory. Parameters
are counted in the modules. The size of the cache is measured, too: the network runs on the meta device and returns a
cache of the right shapes. Whether rows may branch cannot be tested without weights, so it is inferred from the
configuration and the classes of the layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from icl_eval.errors import ModelError
from icl_eval.models.causal.rows import PendingRows, Row
from icl_eval.models.causal.scheduling import RowModel
from icl_eval.models.causal.sharing import configured_sharing, has_causal_masks
from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.masked import position_count
from icl_eval.models.network import CPU_ROW_BUDGET, bytes_per_token
from icl_eval.models.protocol import SEQ2SEQ, Budget
from icl_eval.models.seq2seq import EncoderDecoderInputs, doubles_spaces
from icl_eval.models.tokenization import (
    TokenizerModel,
    bos_tokens,
    special_tokens,
    window_of,
)

BY_POSITION = {"bloom", "mpt"}  # model types whose attention depends on positions in the row
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # names in configurations
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
CACHES = ("past_key_values", "cache_params", "state")  # names in outputs of models
PROBED = torch.bfloat16  # type of the weights in the test: states of another type do not depend on that of weights


class MetaModel(TokenizerModel, RowModel):
    """A causal language model without weights, for which the engine can plan rows and batches.

    Args:
        model: a `PreTrainedModel` with a language-model head, on the meta device.
        tokenizer: its tokenizer, or a similar one.
        name: the name in tables.
        device: the type of device to plan for, `cpu` or `cuda`.
        bos: whether every text begins with the BOS token; by default if the tokenizer adds it.
        window: context length in tokens; by default that of the configuration.

    Attributes:
        counts: the counts of its parameters.

    Raises:
        ModelError: the context length is unknown, or `bos` is True but the tokenizer has no BOS token.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, *, device: str, bos: bool | None = None, window: int | None = None
    ) -> None:
        super().__init__(tokenizer, name, bos_tokens(tokenizer, bos))
        self.model, self.device = model.eval(), device
        self.precision = str(model.dtype).removeprefix("torch.")
        self.fingerprint = f"{name}|meta"
        self.window = window_of(model.config, tokenizer, window)
        config = model.config.get_text_config()
        skip_value_checks(model)
        self._cache_size = cache(partial(cache_size, model))
        one = self._cache_size(1)
        self.counts = count_parameters(model, attention_layers=one.keys if one else int(config.num_hidden_layers))
        self.hidden_size, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.weights = sum(parameter.nbytes for parameter in model.parameters())
        self.token_bytes = bytes_per_token(model)
        self.queue_depth = 1
        self.state_bytes = self.cache_bytes(model.dtype) or 0
        self.budget = Budget(CPU_ROW_BUDGET if device == "cpu" else max(CPU_ROW_BUDGET, self.window))
        by_blocks = bool(getattr(model, "_supports_attention_backend", False))
        found = configured_sharing(config, has_causal_masks(model, self.window), self.window, windows=by_blocks)
        if found.works and (limit := _unshareable(config, one)):
            found = replace(found, works=False, prefix_sharing_limit=limit)
        self.shares_prefixes, self.max_shared_length = found.works, found.max_shared_length
        self.prefix_sharing_limit = found.prefix_sharing_limit
        self.caches_prefixes = found.works
        self.has_tree_attention = found.works and by_blocks

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Refuse: there are no weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} is loaded without weights: {len(rows)} rows can be planned, but not computed")

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:  # noqa: ARG002
        """Refuse: there are no weights.

        Raises:
            ModelError: always.
        """
        count = len(requests)
        raise ModelError(f"{self.name} is loaded without weights: {count} texts can be planned, but not generated")

    def cache_bytes(self, dtype: torch.dtype, tokens: int | None = None) -> int | None:
        """Memory of the cache of a sequence in bytes; None if it is unknown.

        Args:
            dtype: the type of the weights.
            tokens: the length of the sequence; by default, the memory that each token adds.
        """
        one = self._cache_size(1)
        if tokens is None and one is not None and not one.others:
            return one.nbytes(dtype)  # every token adds the same keys and values
        found = [self._cache_size(size) for size in ((1, 2) if tokens is None else (tokens,))]
        sizes = [each.nbytes(dtype) for each in found if each is not None]
        if len(sizes) < len(found):
            return None
        return sizes[-1] - sizes[0] if tokens is None else sizes[0]


class TextReader(TokenizerModel):
    """A masked or encoder-decoder model without weights, which encodes texts and has a window but answers no requests.

    Args:
        model: a model of `transformers` on the meta device.
        tokenizer, name, bos, window: as for `MaskedLM` and `Seq2SeqLM`.
        family: `seq2seq` or `masked`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, family: str, *, bos: bool | None = None, window: int | None = None
    ) -> None:
        self.is_encoder_decoder = family == "seq2seq"
        self.kind = SEQ2SEQ if self.is_encoder_decoder else "pll-l2r"
        start, end = special_tokens(tokenizer, bos)
        super().__init__(tokenizer, name, start)
        self.fingerprint, self.precision = f"{name}|text reader", "none"
        self._doubles_spaces = family == "seq2seq" and doubles_spaces(tokenizer)
        self.window = window_of(model.config, tokenizer, window)
        if family == "seq2seq":
            self.window -= EncoderDecoderInputs(model, tokenizer, self.start, end).reserved
        else:
            self.window = min(self.window, position_count(model)) - len(end) - 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return super().encode([text.removeprefix(" ") for text in texts] if self._doubles_spaces else texts)


def _unshareable(config: Any, one: CacheSize | None) -> str:
    """Why rows of a model may not branch, in one clause; empty if they may.

    Args:
        config: the configuration of the text model.
        one: the cache of a single token.
    """
    if config.model_type in BY_POSITION or getattr(config, "alibi", False):
        return "its attention depends on positions in the row"
    if one is None:
        return "it cannot be tested without weights"
    return "it has other states than keys and values" if one.others else ""


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of parameters, by their use, and of operations in attention.

    Attributes:
        parameters: all parameters; one that two modules share counts once.
        active: parameters that each token uses in a mixture of experts; None if the model has no experts, or its
            configuration does not say how many of them a token uses.
        body: parameters that every token is multiplied by: the active ones without embeddings, which are looked up, and
            without the head.
        head: parameters that every scored token is multiplied by.
        pair: floating-point operations of a token for each token that it attends to, in all layers: 4 times the width
            of the heads of each layer (Hoffmann et al. 2022, arXiv 2203.15556, appendix F: 2 for the product of query
            and key, 2 for that of weight and value).
    """

    parameters: int
    active: int | None
    body: int
    head: int
    pair: int


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The contents of the cache of one sequence.

    Attributes:
        values: number of elements that have the type of the weights.
        fixed: bytes of states that always have the same type.
        keys: number of layers that cache keys and values.
        others: whether there are other states than keys and values.
    """

    values: int
    fixed: int
    keys: int
    others: bool

    def nbytes(self, dtype: torch.dtype) -> int:
        """Memory in bytes, for weights of this type."""
        return self.values * dtype.itemsize + self.fixed


def count_parameters(model: Any, attention_layers: int) -> ParameterCounts:
    """The counts of a `PreTrainedModel` with a language-model head and this number of attention layers."""
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lookups = (module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding))
    embeddings = {id(weight): weight for weight in lookups}
    head = getattr(model.get_output_embeddings(), "weight", None)
    untied = [] if head is None or id(head) in embeddings else [head]
    idle = _idle(model, config)
    return ParameterCounts(
        parameters=parameters,
        active=parameters - idle if idle else None,
        body=parameters - idle - sum(weight.numel() for weight in [*embeddings.values(), *untied]),
        head=config.hidden_size * config.vocab_size if head is None else head.numel(),
        pair=4 * attention_layers * _width(config),
    )


def cache_size(model: Any, tokens: int) -> CacheSize | None:
    """The size of a model's cache after `tokens` tokens; None if it cannot run on the meta device or has no cache."""
    dtype = model.dtype
    cache = _cache(model.to(PROBED), tokens)
    model.to(dtype)
    if cache is None:
        return None
    found = list(_tensors(cache))
    layers = getattr(cache, "layers", [])
    keys = [layer for layer in layers if getattr(layer, "keys", None) is not None]
    return CacheSize(
        values=sum(tensor.numel() for tensor in found if tensor.dtype == PROBED),
        fixed=sum(tensor.nbytes for tensor in found if tensor.dtype != PROBED),
        keys=len(keys),
        others=len(keys) < len(layers) or not keys or any(hasattr(layer, "recurrent_states") for layer in keys),
    )


def skip_value_checks(model: Any) -> None:
    """Make a model skip steps that need values, so that it runs on the meta device.

    These are the search for padding, and the selection of the tokens of each expert.
    """
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = None
        config._experts_implementation = "batched_mm"


def _idle(model: Any, config: Any) -> int:
    """Number of parameters of the experts that a token does not use; 0 if the configuration does not say."""
    routed = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    experts, chosen = _setting(config, EXPERTS), _setting(config, CHOSEN)
    return routed - routed * chosen // experts if experts and chosen else 0


def _setting(config: Any, names: tuple[str, ...]) -> int:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def _width(config: Any) -> int:
    """Width of all attention heads of a layer together."""
    heads = getattr(config, "num_attention_heads", None) or 0
    return int(heads * (getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1)))


def _cache(model: Any, tokens: int) -> Any:
    """The cache that a model on the meta device returns for one sequence; None if it has none or cannot run there."""
    try:
        with torch.inference_mode(), torch.device("meta"):
            output = model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return None
    found = (getattr(output, name, None) for name in CACHES)
    return next((cache for cache in found if cache is not None), None)


def _tensors(cache: Any) -> Iterator[torch.Tensor]:
    """The tensors of floating-point numbers in a cache of any kind."""
    if isinstance(cache, torch.Tensor):
        if cache.is_floating_point():
            yield cache
    elif isinstance(cache, list | tuple):
        for each in cache:
            yield from _tensors(each)
    elif isinstance(cache, dict):
        yield from _tensors(list(cache.values()))
    elif hasattr(cache, "layers"):
        yield from _tensors([vars(layer) for layer in cache.layers])
