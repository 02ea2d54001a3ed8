"""Models with a configuration and a tokenizer but no weights: runs can be planned, but not computed.

They are on the meta device, where tensors have no values, so a model of any size takes no memory. Parameters are
counted as they would be loaded. The size of the cache is not derived from the configuration: the network runs on tokens
without values, which leaves a cache of the true shapes. Whether rows may branch cannot be probed without weights and is
assumed from what the configuration and the classes of the layers say.
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

BY_POSITION = {"bloom", "mpt"}  # they count distances by position in the row
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # what configurations call them
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
CACHES = ("past_key_values", "cache_params", "state")
PROBED = torch.bfloat16  # states of a cache in any other type have that type whatever the type of the weights


class MetaModel(TokenizerModel, RowModel):
    """What the engine needs to know of a model to plan rows for it.

    Args:
        model: a `PreTrainedModel` with a language-model head, on the meta device.
        tokenizer: its tokenizer, or one that stands for it.
        name: its name in tables.
        device: the type of device to plan for, `cpu` or `cuda`.
        bos: whether every text begins with the BOS token; by default if the tokenizer puts it there itself.
        window: context length in tokens; by default that of the configuration.

    Attributes:
        counts: its parameters.

    Raises:
        ModelError: no window is known, or a BOS token is requested and the tokenizer has none.
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
        raise ModelError(f"{self.name} has no weights here: {len(rows)} rows can be planned, but not computed")

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:  # noqa: ARG002
        """Refuse: there are no weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} has no weights here: {len(requests)} texts can be planned, but not generated")

    def cache_bytes(self, dtype: torch.dtype, tokens: int | None = None) -> int | None:
        """Memory of the states of a sequence of `tokens` tokens, or of one more token by default; None if unknown."""
        one = self._cache_size(1)
        if tokens is None and one is not None and not one.others:
            return one.nbytes(dtype)  # of keys and values, every token adds the same
        found = [self._cache_size(size) for size in ((1, 2) if tokens is None else (tokens,))]
        sizes = [each.nbytes(dtype) for each in found if each is not None]
        if len(sizes) < len(found):
            return None
        return sizes[-1] - sizes[0] if tokens is None else sizes[0]


class TextReader(TokenizerModel):
    """What texts become for a model that is not causal, and how long they may be; it answers nothing.

    Args:
        model: of `transformers`, on the meta device.
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
    """Why rows of a model may not branch, whatever sizes its configuration states; empty if they may."""
    if config.model_type in BY_POSITION or getattr(config, "alibi", False):
        return "it counts distances by position in the row"
    if one is None:
        return "it cannot be tried without weights"
    return "it has other states than keys and values" if one.others else ""


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Counts of parameters, and of the operations that follow from them.

    Attributes:
        parameters: all of them; a parameter that two modules share counts once.
        active: those that a token uses in a mixture of experts; None if the model is not one, or its configuration
            does not say how many experts a token uses.
        body: those that every token is multiplied by: the active ones without the head, and without embeddings, which
            are looked up.
        head: those that every scored token is multiplied by.
        pair: floating-point operations of a token that attends to one token, all layers together: 4 for every unit of
            every layer's width (Hoffmann et al. 2022, arXiv 2203.15556, appendix F: 2 for the query's product with the
            key, 2 for the weight's with the value).
    """

    parameters: int
    active: int | None
    body: int
    head: int
    pair: int


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What a cache holds for one sequence.

    Attributes:
        values: numbers in the type of the weights.
        fixed: bytes of states with a fixed type.
        keys: layers that cache keys and values.
        others: whether there are other states than keys and values.
    """

    values: int
    fixed: int
    keys: int
    others: bool

    def nbytes(self, dtype: torch.dtype) -> int:
        """Memory that it takes, in bytes, with weights of a type."""
        return self.values * dtype.itemsize + self.fixed


def count_parameters(model: Any, attention_layers: int) -> ParameterCounts:
    """The counts of a `PreTrainedModel` with a language-model head and so many attention layers."""
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
    """The cache of a model on the meta device after `tokens` tokens; None if it cannot run there or has no cache."""
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
    """Let a model on the meta device skip the search for padding and the gathering of selected experts."""
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = None
        config._experts_implementation = "batched_mm"


def _idle(model: Any, config: Any) -> int:
    """Parameters of the experts that a token does not use; 0 if there are none or the configuration does not say."""
    routed = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    experts, chosen = _setting(config, EXPERTS), _setting(config, CHOSEN)
    return routed - routed * chosen // experts if experts and chosen else 0


def _setting(config: Any, names: tuple[str, ...]) -> int:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def _width(config: Any) -> int:
    """Width of all heads of a layer."""
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


def _tensors(cache_size: Any) -> Iterator[torch.Tensor]:
    """The states of a cache, however it arranges them."""
    if isinstance(cache_size, torch.Tensor):
        if cache_size.is_floating_point():
            yield cache_size
    elif isinstance(cache_size, list | tuple):
        for each in cache_size:
            yield from _tensors(each)
    elif isinstance(cache_size, dict):
        yield from _tensors(list(cache_size.values()))
    elif hasattr(cache_size, "layers"):
        yield from _tensors([vars(layer) for layer in cache_size.layers])
