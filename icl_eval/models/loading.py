"""From what a user names to a model: a directory, a Hub name, the bundled tiny GPT-2, or loaded objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from icl_eval.errors import ModelError
from icl_eval.models.encoding import tokenizer_digest
from icl_eval.models.gguf import gguf_file, is_gguf, pretrained
from icl_eval.models.options import PLL, Setup, Variant, split_options, unusable
from icl_eval.models.protocol import LanguageModel

if TYPE_CHECKING:
    from icl_eval.models.blueprint import Blueprint

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parent.parent / "tiny" / "model"
HASHED = {".json", ".safetensors", ".bin", ".model", ".txt", ".py", ".tiktoken"}  # what an answer can depend on
WEIGHTS = (  # options that say how weights are loaded and laid out
    *("dtype", "quantize", "pll", "device", "allow_pickle", "attn"),
    *("device_map", "max_memory", "offload_dir", "tensor_parallel"),
)
SERVING = ("served_name", "concurrency", "timeout", "retries")  # options that say how a served model is asked
LOADING_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError, TypeError, AttributeError)


def load_model(name: str, **options: Any) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, a GGUF file, a name on the Hub, or the URL of an endpoint.
        options: those of `Variant`, which can change scores (`revision`, `dtype`, `quantize`, `tokenizer` ...), and
            those of `Setup`, which cannot (`device`, `device_map`, `trust_remote_code`, `timeout` ...).

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
        UnknownName: there is no such option.
    """
    asked, setup = split_options(options)
    try:
        variant = Variant(**asked)
    except ValidationError as error:
        raise unusable(error) from error
    return load(name, variant, setup)


def load(name: str, variant: Variant, setup: Setup) -> LanguageModel:
    """As `load_model`, of options that are sorted already."""
    check_options(name, variant, setup)
    if is_endpoint(name):
        return _connected(name, variant, setup)
    from safetensors import SafetensorError
    from transformers.utils import logging

    from icl_eval.models.fused import fuse_activations
    from icl_eval.models.kinds import family_of, language_model, loader_of
    from icl_eval.models.placement import Checkpoint, placed, settle
    from icl_eval.models.tensor_parallel import in_step

    place = resolve(name, variant.revision)
    if (name, variant.dtype) == (TINY, "auto"):
        variant = variant.model_copy(update={"dtype": "float32"})
    safe = None if setup.allow_pickle else True
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        commit = _commit(place, variant.revision)
        shared = {"revision": commit, "trust_remote_code": setup.trust_remote_code}
        tokenizer = tokenizer_of(place, variant.model_copy(update={"revision": commit}), setup)
        family = family_of(name, _configuration(place, shared))
        if setup.tensor_parallel and family != "causal":
            raise ModelError(f"--tensor-parallel is for causal language models, and {name!r} is none")
        loader = loader_of(family)
        checkpoint = Checkpoint(place, loader, shared)
        source, unpacking = pretrained(place, weights=True)
        told = {**unpacking, **placed(variant, setup, checkpoint)}
        model, loaded = loader.from_pretrained(source, use_safetensors=safe, output_loading_info=True, **shared, **told)
    except (*LOADING_ERRORS, SafetensorError) as error:
        raise ModelError(f"{name!r} cannot be loaded: {_reason(error, setup)}") from error
    settle(model, setup, checkpoint)
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"{name!r} lacks {len(missing)} of the weights its configuration asks for, such as {missing[0]!r}"
        )
    fuse_activations(model)
    fingerprint = _weights_name(name, place, commit)
    if variant.tokenizer is not None:
        _check_vocabulary(model, tokenizer, variant.tokenizer)
        fingerprint += f"|{tokenizer_digest(tokenizer)}"
    own = setup.attn is not None
    lm = language_model(family, model, tokenizer, name, fingerprint, variant, own_attention=own)
    return in_step(lm) if setup.tensor_parallel else lm


def load_blueprint(name: str, variant: Variant, setup: Setup) -> Blueprint:
    """A causal language model without weights, of which only configuration and tokenizer are read.

    Raises:
        ModelError: one of them cannot be read, or the model is of another kind; the sentence says why.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from icl_eval.models.blueprint import Blueprint
    from icl_eval.models.kinds import family_of
    from icl_eval.models.precision import type_named

    if is_endpoint(name):
        raise ModelError(f"{name!r} is an endpoint, which does not show its model: plan the model's own configuration")
    models: Any = AutoModelForCausalLM
    place = resolve(name, variant.revision)
    target = torch.device(setup.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = tokenizer_of(place, variant, setup)
        config = _configuration(place, {"revision": variant.revision, "trust_remote_code": setup.trust_remote_code})
        if family_of(name, config) != "causal":
            raise ModelError(f"a plan is made for causal language models, and {name!r} is a {config.model_type} model")
        kind = type_named("float32" if (name, variant.dtype) == (TINY, "auto") else variant.dtype, target)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # planned as it is before quantisation
        with torch.device("meta"):
            model = models.from_config(
                config,
                dtype=config.dtype or torch.float32 if kind == "auto" else kind,
                trust_remote_code=setup.trust_remote_code,
            )
    except LOADING_ERRORS as error:
        raise ModelError(f"{name!r} cannot be planned: {_reason(error, setup)}") from error
    return Blueprint(model, tokenizer, name, device=target.type, bos=variant.bos, window=variant.window)


def wrap_model(
    model: Any,
    tokenizer: Any,
    *,
    name: str = "",
    bos: bool | None = None,
    window: int | None = None,
    pll: PLL = "l2r",
) -> LanguageModel:
    """A loaded `transformers` model and tokenizer as a language model of its kind."""
    from icl_eval.models.kinds import family_of_model, language_model

    name, digest = name or type(model).__name__, _weights_digest(model, tokenizer)
    return language_model(
        family_of_model(model), model, tokenizer, name, digest, Variant(bos=bos, window=window, pll=pll)
    )


def tokenizer_of(place: str, variant: Variant, setup: Setup) -> Any:
    """The tokenizer of the model in a directory or on the Hub, or the one that is asked for instead.

    Raises:
        ModelError: there is none, or one without a vocabulary.
        OSError, ValueError, ImportError, KeyError, RuntimeError, TypeError, AttributeError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    asked = variant.tokenizer
    loader: Any = AutoTokenizer
    source, own = pretrained(place if asked is None else _place(asked, "tokenizer"))
    tokenizer = loader.from_pretrained(
        source,
        **own,
        revision=variant.revision if asked is None else None,
        trust_remote_code=setup.trust_remote_code,
    )
    if len(tokenizer) < 2:
        raise ModelError(f"{asked or place!r} has no tokenizer; --tokenizer names another one")
    return tokenizer


def _configuration(place: str, shared: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    configs: Any = AutoConfig
    source, own = pretrained(place)
    return configs.from_pretrained(source, **own, **shared)


def is_endpoint(name: str) -> bool:
    """Whether a model's name is the URL of a server."""
    return name.lower().startswith(("http://", "https://"))


def _connected(name: str, variant: Variant, setup: Setup) -> LanguageModel:
    from icl_eval.models.served import connect

    try:
        tokenizer = tokenizer_of(name, variant, setup)
    except LOADING_ERRORS as error:
        raise ModelError(f"the tokenizer {variant.tokenizer!r} cannot be loaded: {_reason(error, setup)}") from error
    return connect(name, tokenizer, variant, setup)


def check_options(name: str, variant: Variant, setup: Setup) -> None:
    """See that every option has an effect on a model of this name, and that an endpoint has a tokenizer.

    Raises:
        ModelError: one has none; or there is no tokenizer.
    """
    if not is_endpoint(name):
        _refuse(SERVING, variant, setup, "a model that is not served")
        return
    _refuse(WEIGHTS, variant, setup, "a served model")
    if variant.tokenizer is None:
        raise ModelError(
            "an endpoint needs --tokenizer: the directory or Hub name of the served model's tokenizer, in whose tokens "
            "prompts are fitted and answers found"
        )


def _refuse(options: Collection[str], variant: Variant, setup: Setup, whom: str) -> None:
    """Raise `ModelError` for an option that would have no effect."""
    for given, default in ((variant, Variant()), (setup, Setup())):
        for option, value in default:
            if option in options and getattr(given, option) != value:
                raise ModelError(f"`{option}` has no effect on {whom}")


def resolve(name: str, revision: str | None = None) -> str:
    """The directory or GGUF file that a name means, or the name itself if it can only be the Hub's or a URL.

    Raises:
        ModelError: the name is a path, but not that of a checkpoint, or needs a package that is not there; or it lies
            here or is served and a revision is asked for, of which there is none: all would be the same weights; or a
            URL holds a secret.
    """
    if is_endpoint(name):
        from icl_eval.models.served import checked_url

        url = checked_url(name)
        if revision is not None:
            raise ModelError(f"{url!r} is an endpoint and has no revisions; --revision is for names on the Hub")
        return url
    path = Path(name).expanduser()
    if revision is not None and (name == TINY or path.exists()):
        raise ModelError(f"{name!r} lies on this machine and has no revisions; --revision is for names on the Hub")
    place = _place(name, "model")
    if Path(place).is_dir() and not (Path(place) / "config.json").is_file():
        raise ModelError("this directory is not a checkpoint: it has no config.json", place)
    return place


def _place(name: str, kind: str) -> str:
    """The directory or GGUF file that a name means, or the name itself if it can only be the Hub's."""
    if name == TINY:
        return str(TINY_PATH)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if is_gguf(name):
        return gguf_file(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no such {kind} directory", path)
    return name


def is_current(fingerprint: str, device: str, name: str, variant: Variant, setup: Setup) -> bool:
    """Whether loading a model would give this fingerprint on this device, told without its weights.

    The fingerprint must have been made under the same variant; False also where nothing can be told, and where the
    setup has options that only loading can find to be impossible.
    """
    from icl_eval.models import causal, masked, seq2seq
    from icl_eval.models.placement import device_named

    place = resolve(name, variant.revision)
    usual = Setup(device=setup.device, trust_remote_code=setup.trust_remote_code, allow_pickle=setup.allow_pickle)
    if is_endpoint(name) or setup != usual or str(device_named(setup.device)) != device:
        return False
    try:
        weights = re.escape(_weights_name(name, place, _commit(place, variant.revision)))
    except OSError:  # as loading will say
        return False
    kinds = (
        rf"bos[01]\|arithmetic{causal.ARITHMETIC}",
        rf"seq2seq\|bos\d+\|begin[\d.]+\|end[\d.]*\|arithmetic{seq2seq.ARITHMETIC}",
        rf"pll(-l2r)?\|bos\d+\|mask\d+\|end[\d.]*\|arithmetic{masked.ARITHMETIC}",
    )
    return re.fullmatch(rf"{weights}\|[^|]+\|({'|'.join(kinds)})", fingerprint) is not None


def _commit(place: str, revision: str | None) -> str | None:
    """The commit that a revision of a repository on the Hub means now, as the cache names it; a directory has none.

    Raises:
        OSError: the repository has no such revision or no configuration, or cannot be reached.
    """
    from transformers.utils.hub import cached_file

    if Path(place).exists():
        return None
    return Path(str(cached_file(place, "config.json", revision=revision))).parent.name


def _weights_name(name: str, place: str, commit: str | None) -> str:
    """What a fingerprint begins with: the digest of a directory or a file, or a commit on the Hub."""
    return _digest(Path(place)) if commit is None else f"{name}@{commit}"


def _check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Raise `ModelError` if another tokenizer than the model's own has tokens that the model does not."""
    known = getattr(model.get_input_embeddings(), "num_embeddings", None)
    largest = max(tokenizer.get_vocab().values())
    if known is not None and largest >= known:
        raise ModelError(f"the tokenizer {name!r} has tokens up to {largest}, but the model has only {known}")


def _reason(error: Exception, setup: Setup) -> str:
    text = str(error)
    if setup.attn and ("attn_implementation" in text or "Attention" in text or "attention" in text):
        return f"--attn {setup.attn} cannot be used: {_first_sentence(error).split('. ')[0]}"
    if "llm_int8_enable_fp32_cpu_offload" in text:
        return (
            "quantised weights cannot be left to the processor or the disk, and the GPUs have no room for all of them"
        )
    if "custom code" in text or "trust_remote_code" in text:
        return "its repository comes with code of its own, which --trust-remote-code would run"
    if "ignore_mismatched_sizes" in text:
        return "its weights do not have the shapes that its configuration gives"
    if "backend tokenizer" in text:
        return "it has no tokenizer, or one of a kind that needs a package that is not installed"
    if "safetensors" in text and "no file named" in text and not setup.allow_pickle:
        return f"{_first_sentence(error)}; --allow-pickle also takes pickled weights, which can run code"
    return _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def _digest(path: Path) -> str:
    """Hash of a checkpoint's content, configuration, tokenizer and weights, or of a file's."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and (file == path or file.suffix in HASHED):
            digest.update(file.name.encode() if path.is_dir() else b"")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()


def _weights_digest(model: Any, tokenizer: Any) -> str:
    from icl_eval.models.placement import tensor_of
    from icl_eval.models.written import end_tokens

    digest = hashlib.blake2b(str(sorted(tokenizer.get_vocab().items())).encode(), digest_size=16)
    digest.update(model.config.to_json_string().encode())
    digest.update(str(sorted(end_tokens(model, tokenizer))).encode())
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor_of(model, name) if tensor.is_meta else tensor
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(dtype=_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
