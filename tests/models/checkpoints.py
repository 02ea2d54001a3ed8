"""Checkpoints small enough to make in a test."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from icl_eval.errors import IclEvalError, ModelError
from icl_eval.models import load_model

from .architectures import build


def byte_tokenizer(*, adds_bos: bool = False, **special: Any) -> Any:
    """A tokenizer with a token for each byte, `<s>` and `</s>`."""
    names = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    kind: Any = hf.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, **{"bos_token": "<s>", "eos_token": "</s>", **special})


def checkpoint(folder: Path, *, adds_bos: bool = False, **changes: Any) -> Path:
    """A tiny Llama and its tokenizer on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _saved(adds_bos=adds_bos, **changes).items():
        (folder / name).write_bytes(content)
    return folder


@cache
def _saved(*, adds_bos: bool, **changes: Any) -> dict[str, bytes]:
    """The files of such a checkpoint, made once."""
    with TemporaryDirectory() as folder:
        build("llama", **{"vocab_size": 258, **changes}).save_pretrained(folder)
        byte_tokenizer(adds_bos=adds_bos).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def refusal(name: object, *, error: type[IclEvalError] = ModelError, **options: Any) -> str:
    """The one sentence with which a checkpoint is rejected, on a CPU unless another device is requested."""
    with pytest.raises(error) as caught:
        load_model(str(name), **{"device": "cpu", **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written_to(folder: Path, devices: Any, name: str = "devices.yaml") -> str:
    """A file with a map of modules to devices."""
    path = folder / name
    path.write_text(json.dumps(devices) if not isinstance(devices, str) else devices)
    return str(path)


def letter(token: int) -> str:
    """The one character that `letter_tokenizer` writes for a token."""
    return chr(0x4E00 + token)


def letter_tokenizer() -> Any:
    """A tokenizer with a different character for each token, so that texts identify tokens; token 1 ends a text."""
    tokenizer = Tokenizer(models.BPE(vocab={letter(token): token for token in range(258)}, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    kind: Any = hf.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, bos_token=letter(0), eos_token=letter(1))
