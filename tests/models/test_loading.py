from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import hub

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models import load_model

from .architectures import build
from .checkpoints import byte_tokenizer, checkpoint, refusal


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("saved") / "llama")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to damage."""
    return Path(shutil.copytree(saved, tmp_path / "llama"))


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_saved_model_is_loaded_in_float32_on_a_cpu(saved: Path) -> None:
    lm = load_model(str(saved), device="cpu")

    assert (lm.name, lm.precision, lm.window, lm.start, lm.fallback) == (str(saved), "float32", 64, (), 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_take_the_requested_type(saved: Path, dtype: str) -> None:
    assert load_model(str(saved), dtype=dtype, device="cpu").precision == dtype


@pytest.mark.parametrize(("adds_bos", "start"), [(True, (0,)), (False, ())])
def test_bos_follows_the_tokenizer(tmp_path: Path, adds_bos: bool, start: tuple[int, ...]) -> None:
    assert load_model(str(checkpoint(tmp_path / "llama", adds_bos=adds_bos)), device="cpu").start == start


def test_fingerprint_stays_on_reload_and_follows_weights_type_and_bos(saved: Path, folder: Path) -> None:
    first = load_model(str(saved), device="cpu").fingerprint
    build("llama", vocab_size=258, sharpness=1.01).save_pretrained(folder)
    others = [
        load_model(str(folder), device="cpu"),
        load_model(str(saved), device="cpu", dtype="bfloat16"),
        load_model(str(saved), device="cpu", bos=True),
    ]

    assert load_model(str(saved), device="cpu").fingerprint == first
    assert len({first, *(other.fingerprint for other in others)}) == 4


def test_fingerprint_does_not_depend_on_where_a_model_lies(saved: Path, folder: Path) -> None:
    assert load_model(str(saved), device="cpu").fingerprint == load_model(str(folder), device="cpu").fingerprint


def test_another_tokenizer_is_taken_and_tells_in_the_fingerprint(saved: Path, tmp_path: Path) -> None:
    byte_tokenizer(adds_bos=True).save_pretrained(tmp_path / "other")
    lm = load_model(str(saved), device="cpu", tokenizer=str(tmp_path / "other"))

    assert lm.start == (0,)
    assert lm.fingerprint != load_model(str(saved), device="cpu", bos=True).fingerprint
    assert lm.fingerprint == load_model(str(saved), device="cpu", tokenizer=str(tmp_path / "other")).fingerprint


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(saved: Path) -> None:
    assert (
        refusal(saved, tokenizer="tiny") == "the tokenizer 'tiny' has token ids up to 836, but the model has 258 tokens"
    )


def test_a_missing_directory_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent") == f"{tmp_path}/absent: there is no such model directory"
    assert refusal("./absent") == "absent: there is no such model directory"


def test_a_home_directory_is_expanded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))

    assert load_model("~/llama", device="cpu").window == 64
    assert refusal("~/absent").endswith("there is no such model directory")


def test_a_directory_without_configuration_is_no_checkpoint(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: this directory is not a checkpoint: it has no config.json"


def test_pickled_weights_are_taken_only_when_allowed(folder: Path) -> None:
    safe = load_model(str(folder), device="cpu")
    (folder / "model.safetensors").unlink()
    torch.save(build("llama", vocab_size=258).state_dict(), folder / "pytorch_model.bin")

    assert "--allow-pickle also loads pickled weights, which can run code" in refusal(folder)
    assert load_model(str(folder), device="cpu", allow_pickle=True).fingerprint != safe.fingerprint


def test_code_of_a_repository_is_not_run(folder: Path) -> None:
    configure(folder, model_type="unheard_of", auto_map={"AutoConfig": "its.Config", "AutoModelForCausalLM": "its.LM"})
    (folder / "its.py").write_text("raise SystemExit('this code ran')\n")

    assert refusal(folder).endswith("which is run only with --trust-remote-code")


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    configure(folder, num_hidden_layers=3)

    assert "lacks 9 of the weights that its configuration requires, such as 'model.layers.2." in refusal(folder)


@pytest.mark.parametrize("layers", [1, 0, -1])
def test_a_checkpoint_with_more_layers_than_its_configuration_is_refused(folder: Path, layers: int) -> None:
    configure(folder, num_hidden_layers=layers)
    unused = 9 * (2 - max(layers, 0))

    assert f"has {unused} weights that its configuration does not use, such as 'model.layers." in refusal(folder)


def test_weights_saved_without_the_name_of_their_head_are_refused_alike(tmp_path: Path) -> None:
    build("gpt2", vocab_size=258).base_model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)

    assert load_model(str(tmp_path), device="cpu").window == 64
    configure(tmp_path, n_layer=1)
    assert "weights that its configuration does not use, such as 'h.1." in refusal(tmp_path)


def test_a_bias_that_the_configuration_leaves_out_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, attention_bias=True)
    configure(tmp_path, attention_bias=False)

    assert "such as 'model.layers.0.self_attn.k_proj.bias'" in refusal(tmp_path)


def test_another_head_and_stored_constants_may_be_unused(folder: Path) -> None:
    plain = load_model(str(folder), device="cpu")
    weights = load_file(folder / "model.safetensors")
    more = ["v_head.summary.weight", "score.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    more += ["model.layers.1.self_attn.k_scale", "model.layers.1.attn.masked_bias"]
    save_file(weights | {name: torch.zeros(3) for name in more}, folder / "model.safetensors", {"format": "pt"})

    assert load_model(str(folder), device="cpu").encode(["a"]) == plain.encode(["a"])


def test_weights_quantised_in_an_unknown_way_are_not_read_as_they_are(folder: Path) -> None:
    configure(folder, quantization_config={"quant_method": "gpqt"})

    assert refusal(folder, error=UnknownName) == "no quantisation method is named 'gpqt'; did you mean gptq?"


def test_pickled_weights_that_hold_code_are_not_read(folder: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return exit, (9,)

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Code()}, folder / "pytorch_model.bin")

    assert refusal(folder, allow_pickle=True).endswith(
        "its pickled weights contain more than tensors, such as code, and are not read"
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_size": "x"}, "Field 'hidden_size' expected int, got str (value: 'x')"),
        ({"num_attention_heads": 0}, "cannot be loaded: "),
        ({"head_dim": 0}, "cannot be "),
        ({"quantization_config": 5}, "cannot be loaded: "),
    ],
)
def test_a_configuration_of_impossible_values_is_refused(folder: Path, changes: dict[str, Any], why: str) -> None:
    configure(folder, **changes)

    assert why in refusal(folder)


def test_the_device_without_values_is_refused(saved: Path) -> None:
    assert refusal(saved, device="meta") == "--device meta cannot be used: tensors have no values there"
    assert "'meta'" in refusal(saved, device=None, device_map={"": "meta"})


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    build("gpt2", vocab_size=258).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)

    assert load_model(str(tmp_path), device="cpu").window == 64


def test_weights_of_other_shapes_are_refused(folder: Path) -> None:
    configure(folder, hidden_size=64, head_dim=16)

    assert refusal(folder).endswith("the shapes of its weights do not match its configuration")


def test_weights_that_are_cut_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    assert "invalid header length" in refusal(folder)


def test_a_checkpoint_without_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()

    assert "it has no tokenizer" in refusal(folder)


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")

    assert "is not a valid JSON file" in refusal(folder)


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    configure(folder, model_type="unheard_of")

    assert "`unheard_of`" in refusal(folder)


def test_an_unknown_type_names_the_known_ones(saved: Path) -> None:
    assert refusal(saved, dtype="int8") == "--dtype int8 is not one of auto, float32, bfloat16, float16"


def test_a_device_that_is_not_there_is_reported(saved: Path) -> None:
    with pytest.raises(ModelError, match="--device warp cannot be used: "):
        load_model(str(saved), device="warp")


def test_what_the_hub_says_becomes_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, *_: Any, **__: Any) -> None:
        raise OSError(f"We couldn't connect to the Hub to load {name}.\nCheck your internet connection.")

    monkeypatch.setattr(hub, "cached_file", unreachable)

    assert refusal("someone/model") == (
        "'someone/model' cannot be loaded: We couldn't connect to the Hub to load someone/model"
    )


def test_a_cpu_keeps_float32_whatever_the_checkpoints_type(tmp_path: Path) -> None:
    build("llama", vocab_size=258).to(torch.bfloat16).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)

    assert load_model(str(tmp_path), device="cpu").precision == "float32"


def test_code_of_a_repository_is_run_when_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    plain = load_model(str(folder), device="cpu")
    configure(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.LM"})
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'own'\n"
        "class LM(LlamaForCausalLM):\n    config_class = Config\n"
    )

    assert refusal(folder) == (
        f"'{folder}' cannot be loaded: its repository contains code, which is run only with --trust-remote-code"
    )
    for devices in ({"": "cpu"}, {"model": "cpu", "lm_head": "disk"}):
        trusted = load_model(str(folder), device_map=devices, trust_remote_code=True)
        assert type(trusted.model).__name__ == "LM"  # type: ignore[attr-defined]
        assert trusted.window == plain.window


def test_a_rule_for_masked_models_is_refused_before_the_weights_of_another_are_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", read)

    assert refusal(saved, pll="plain") == f"--pll plain needs a masked language model, and '{saved}' is not one"
