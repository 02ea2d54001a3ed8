"""Count parameters, operations and cache of a network on the meta device, where tensors have no values.

Parameters are counted as they would be loaded. The size of the cache is not derived from the configuration: the network
runs on tokens without values, which leaves a cache of the true shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # what configurations call them
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
CACHES = ("past_key_values", "cache_params", "state")
PROBED = torch.bfloat16  # states of a cache in any other type have that type whatever the type of the weights


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
