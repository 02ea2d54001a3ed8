"""Text embeddings by a model of `transformers`: the mean of the last hidden states of a text's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import ModelError
from icl_eval.models.locking import COMPUTING
from icl_eval.models.options import LoadConfig, ModelConfig, is_endpoint

BATCH = 64  # texts, of similar lengths
LONGEST = 512  # tokens; longer texts are truncated

Vectors = NDArray[np.float32]


def text_encoder(name: str) -> Callable[[Sequence[str]], Vectors]:
    """A function that computes the vectors (texts, hidden size) of texts; it loads the model when it is first called.

    Args:
        name: `tiny`, a directory, a GGUF file, or a name on the Hub.
    """

    def encode(texts: Sequence[str]) -> Vectors:
        with COMPUTING:
            return _loaded(name)(texts)

    return encode


@lru_cache(maxsize=4)
def encoder_words(name: str) -> str:
    """The encoder as in signatures: the last part of its name, and the start of its digest or commit.

    Raises:
        ModelError: there is no such encoder.
    """
    from icl_eval.models.loading.checkpoint import commit_of, explaining_errors, weights_name

    location = _location(name)
    with explaining_errors(f"the encoder {name!r} cannot be identified", LoadConfig()):
        version = weights_name("", location, commit_of(location, None)).removeprefix("@")
    return f"{name.replace('|', '/').rstrip('/').split('/')[-1]}#{version[:8]}"


def _location(name: str) -> str:
    """The directory or file of an encoder, or its name on the Hub.

    Raises:
        ModelError: the name is the URL of an endpoint, or leads nowhere.
    """
    from icl_eval.models.loading.checkpoint import resolve

    if is_endpoint(name):
        raise ModelError(f"the encoder {name!r} is an endpoint, but an encoder must be a model of `transformers`")
    return resolve(name)


class _Encoder:
    def __init__(self, model: Any, tokenizer: Any, device: Any) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        limits = (LONGEST, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", LONGEST))
        self.longest = min(int(limit) for limit in limits if limit)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Vectors (texts, hidden size); the vector of a text without tokens is zero."""
        found = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        if not texts:
            return found
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.longest, verbose=False)["input_ids"]
        order = sorted((index for index, each in enumerate(ids) if each), key=lambda index: len(ids[index]))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            found[batch] = self._means([ids[index] for index in batch])
        return found

    def _means(self, ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        from icl_eval.models.network import not_padding, padded

        rows = [np.array(each, np.int32) for each in ids]
        tokens, mask = (
            each.to(self.device) for each in (padded(rows, self.tokenizer.pad_token_id or 0), not_padding(rows))
        )
        with torch.inference_mode():
            output = self.model(input_ids=tokens, attention_mask=mask)
            states = output.last_hidden_state.float()  # (texts, tokens, hidden size)
            sums = (states * mask[:, :, None]).sum(dim=1)
            means: Vectors = (sums / mask.sum(dim=1, keepdim=True)).cpu().numpy()
        return means


@lru_cache(maxsize=1)
def _loaded(name: str) -> _Encoder:
    """The loaded encoder; it is kept for the next task, until another one is loaded.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    from icl_eval.models.loading.checkpoint import configuration, explaining_errors, pretrained, tokenizer_of
    from icl_eval.models.loading.devices import device_named

    location, loader = _location(name), AutoModel
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = device_named(None)
    dtype = torch.float32 if device.type == "cpu" else "auto"
    with explaining_errors(f"the encoder {name!r} cannot be loaded", LoadConfig()):
        tokenizer = tokenizer_of(location, ModelConfig(), LoadConfig())
        is_encoder_decoder = configuration(location, {}).is_encoder_decoder
        source, unpacking = pretrained(location, weights=True)
        model: Any = loader.from_pretrained(source, use_safetensors=True, dtype=dtype, **unpacking)
    return _Encoder((model.get_encoder() if is_encoder_decoder else model).eval().to(device), tokenizer, device)
