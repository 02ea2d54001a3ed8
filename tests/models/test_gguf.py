from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from icl_eval.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import ScoreRequest, load_model
from icl_eval.models.loading import checkpoint

from .architectures import build
from .checkpoints import byte_tokenizer

NAMES = {  # llama.cpp's names of a Llama's tensors
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def model() -> Any:
    return build("llama", vocab_size=259, max_position_embeddings=96)


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    _write(model, path)
    return path


def test_a_gguf_file_is_the_model_that_it_was_made_of(model: Any, file: Path) -> None:
    lm = load_model(str(file), device="cpu")
    tokens = lm.encode(["Tom has a cat."])[0]
    (answer,) = Engine(lm).answer([ScoreRequest.of(tokens[:3], tokens[3:])])
    with torch.inference_mode():
        rows = model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)

    assert (lm.name, lm.precision, lm.window) == (str(file), "float32", 96)
    assert answer.logprobs == pytest.approx([float(rows[i - 1, tokens[i]]) for i in range(3, len(tokens))], abs=1e-5)


def test_the_fingerprint_follows_the_file_and_not_its_location(file: Path, tmp_path: Path) -> None:
    (copied := tmp_path / "copy.gguf").write_bytes(file.read_bytes())
    _write(build("llama", vocab_size=259, max_position_embeddings=96, sharpness=1.01), other := tmp_path / "o.gguf")
    prints = [load_model(str(each), device="cpu").fingerprint for each in (file, copied, other)]

    assert prints[0] == prints[1] != prints[2]


def test_a_tokenizer_can_come_from_elsewhere(file: Path, tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    lm = load_model(str(file), device="cpu", tokenizer=str(tmp_path))

    assert load_model(str(file), device="cpu").encode(["ab"]) == [[258]]
    assert lm.encode(["ab"]) == [byte_tokenizer()("ab", add_special_tokens=False)["input_ids"]]


def test_a_file_that_is_not_there_is_reported() -> None:
    with pytest.raises(ModelError, match=r"^absent\.gguf: there is no such file$"):
        load_model("absent.gguf")


def test_a_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(b"GGML")

    with pytest.raises(ModelError, match="cannot be loaded: "):
        load_model(str(tmp_path / "odd.gguf"), device="cpu")


def test_without_the_package_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None if name == "gguf" else real(name))

    with pytest.raises(ModelError, match=r"needs the package `gguf`: pip install 'icl-eval\[gguf\]'"):
        load_model(str(file), device="cpu")


def _write(model: Any, path: Path) -> None:
    """A model and the byte tokenizer as llama.cpp keeps them, in float32."""
    config, writer = model.config, GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = [*byte_tokenizer().convert_ids_to_tokens(list(range(258))), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, *[1] * (len(words) - 2)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_name(name), _interleaved(name, tensor, config).numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def _interleaved(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """llama.cpp turns neighbouring numbers of queries and keys by an angle, `transformers` those half a head apart."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((heads[each] for each in heads if each in name), None)
    if count is None:
        return tensor
    return tensor.view(count, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
