"""What a network consists of and what a token takes to read, counted on the meta device, where tensors have no values.

Parameters are counted as they would be loaded. What a cache holds is not derived from the configuration: the network
runs on tokens that have no values either, and leaves a cache of the true shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")  # what configurations call them
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
CACHES = ("past_key_values", "cache_params", "state")
PROBED = torch.bfloat16  # what a cache keeps in another type than this, it keeps so whatever the weights are


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Counts of parameters, and of the operations that follow from them.

    Attributes:
        parameters: all; one that two modules share counts once.
        active: those that a token meets in a mixture of experts; none if it is no such mixture, or its configuration
            does not say how many experts a token meets.
        body: those that every token is multiplied by: the active ones without head, and without embeddings, which are
            looked up.
        head: those that every place whose next token is asked for is multiplied by.
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
class Held:
    """What a cache holds of one sequence.

    Attributes:
        values: numbers in the weights' type, whichever that is.
        fixed: bytes of what has a type of its own.
        keys: layers that keep keys and values.
        others: whether anything else is kept, or in another way.
    """

    values: int
    fixed: int
    keys: int
    others: bool

    def nbytes(self, dtype: torch.dtype) -> int:
        """Memory that it takes where the weights are of a type."""
        return self.values * dtype.itemsize + self.fixed


def anatomy(model: Any, attending: int) -> Anatomy:
    """The counts of a `PreTrainedModel` with a language-model head, of which so many layers attend."""
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    looked_up = (module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding))
    embeddings = {id(weight): weight for weight in looked_up}
    head = getattr(model.get_output_embeddings(), "weight", None)
    apart = [] if head is None or id(head) in embeddings else [head]
    idle = _idle(model, config)
    return Anatomy(
        parameters=parameters,
        active=parameters - idle if idle else None,
        body=parameters - idle - sum(weight.numel() for weight in [*embeddings.values(), *apart]),
        head=config.hidden_size * config.vocab_size if head is None else head.numel(),
        pair=4 * attending * _width(config),
    )


def held(model: Any, tokens: int) -> Held | None:
    """What the cache of a model on the meta device has of so many tokens; none if it cannot run there or keeps none."""
    own = model.dtype
    cache = _cache(model.to(PROBED), tokens)
    model.to(own)
    if cache is None:
        return None
    found = list(_tensors(cache))
    layers = getattr(cache, "layers", [])
    keys = [layer for layer in layers if getattr(layer, "keys", None) is not None]
    return Held(
        values=sum(tensor.numel() for tensor in found if tensor.dtype == PROBED),
        fixed=sum(tensor.nbytes for tensor in found if tensor.dtype != PROBED),
        keys=len(keys),
        others=len(keys) < len(layers) or not keys or any(hasattr(layer, "recurrent_states") for layer in keys),
    )


def look_at_no_values(model: Any) -> None:
    """Let a model on the meta device neither look for padding nor gather the experts that are asked."""
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = None
        config._experts_implementation = "batched_mm"


def _idle(model: Any, config: Any) -> int:
    """Parameters of the experts that a token does not meet; 0 if there are none or the configuration does not say."""
    routed = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    experts, chosen = _said(config, EXPERTS), _said(config, CHOSEN)
    return routed - routed * chosen // experts if experts and chosen else 0


def _said(config: Any, names: tuple[str, ...]) -> int:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def _width(config: Any) -> int:
    """Units of all heads of a layer."""
    heads = getattr(config, "num_attention_heads", None) or 0
    return int(heads * (getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1)))


def _cache(model: Any, tokens: int) -> Any:
    """What a model on the meta device keeps of one sequence of tokens; none if it keeps nothing or cannot run there."""
    try:
        with torch.inference_mode(), torch.device("meta"):
            output = model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return None
    found = (getattr(output, name, None) for name in CACHES)
    return next((cache for cache in found if cache is not None), None)


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """The states among all that a cache holds, however it arranges them."""
    if isinstance(held, torch.Tensor):
        if held.is_floating_point():
            yield held
    elif isinstance(held, list | tuple):
        for each in held:
            yield from _tensors(each)
    elif isinstance(held, dict):
        yield from _tensors(list(held.values()))
    elif hasattr(held, "layers"):
        yield from _tensors([vars(layer) for layer in held.layers])
