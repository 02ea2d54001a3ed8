"""Tiny random encoder-decoder and masked language models, and tokenizers of their kinds, made on the spot."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WINDOW, VOCABULARY = 64, 320
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = ".,:?!'()-0123456789"

_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "n_positions": WINDOW,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}
_BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": WINDOW,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
    "pad_token_id": 0,
}
SEQ2SEQ: dict[str, tuple[Any, dict[str, Any]]] = {
    "t5": (hf.T5Config, _T5),
    "flan": (hf.T5Config, {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": (hf.MT5Config, {**_T5, "feed_forward_proj": "gated-gelu"}),
    "bart": (hf.BartConfig, _BART),
}
MASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (hf.BertConfig, _BERT),
    "roberta": (hf.RobertaConfig, {**_BERT, "max_position_embeddings": WINDOW + 2, "pad_token_id": 1}),
    "distilbert": (
        hf.DistilBertConfig,
        {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 0}
        | {"max_position_embeddings": WINDOW},
    ),
    "electra": (hf.ElectraConfig, {**_BERT, "embedding_size": 16}),
}


def build(name: str, *, seed: int = 0, sharpness: float = 2.0, **changes: Any) -> Any:
    """A model in float32 whose weights, biases included, are random."""
    kind, settings = {**SEQ2SEQ, **MASKED}[name]
    torch.manual_seed(seed)
    loader: Any = hf.AutoModelForSeq2SeqLM if name in SEQ2SEQ else hf.AutoModelForMaskedLM
    model = loader.from_config(kind(**{**settings, **changes})).eval()
    if settings.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in dict.fromkeys(model.parameters()):
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
        head = model.get_output_embeddings().weight
        head.copy_(torch.randn_like(head) * sharpness / head.shape[1] ** 0.5)
        if getattr(model.config, "scale_decoder_outputs", False):
            head.mul_(head.shape[1] ** 0.5)
    return model


def tokenizer_for(name: str) -> Any:
    """A tokenizer of the kind that the original has."""
    if name in ("t5", "flan", "mt5"):
        return unigram()
    return byte_level() if name in ("bart", "roberta") else wordpiece()


def unigram() -> Any:
    """T5's kind: white space parts words and is then a mark at their beginning; `</s>` ends a text; sentinels."""
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"]
    words = ["▁blue", "▁sky", "▁is", "▁yes", "▁no", "sky", "ness", "ing"]
    pieces = [*special, "▁", *LETTERS, *LETTERS.upper(), *MARKS, *words]
    vocabulary = [(piece, -1.0 if piece in words else -4.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _fast(tokenizer, additional_special_tokens=special[3:], **names)


def sentencepiece() -> Any:
    """XLM-R's kind: as T5's, between `<s>` and `</s>`, with a mask."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = ["▁blue", "▁sky", "▁yes", "▁no", "ness", "é", "–"]
    pieces = [*special, "▁", *LETTERS, *MARKS, *words]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 if piece in words else -4.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return _between(tokenizer, "<s>", "</s>")


def byte_level() -> Any:
    """BART's and RoBERTa's kind: bytes, a few words that begin with their space, a text between `<s>` and `</s>`."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "y"), ("e", "s"), ("Ġy", "es"), ("Ġ", "n"), ("Ġn", "o"), ("i", "n"), ("in", "g"), ("s", "k")]
    pieces = [*special, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _between(tokenizer, "<s>", "</s>")


def wordpiece() -> Any:
    """BERT's kind: lower case, pieces within a word begin with `##`, a text between `[CLS]` and `[SEP]`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["yes", "no", "blue", "un", "##like", "##ly", "##ing", "sky"]
    pieces = [*special, *LETTERS, *MARKS, *(f"##{letter}" for letter in LETTERS), *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    return _fast(tokenizer, unk_token="[UNK]", **names)


def _between(tokenizer: Tokenizer, first: str, last: str) -> Any:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, 0), (last, 2)]
    )
    names = {"bos_token": first, "eos_token": last, "cls_token": first, "sep_token": last, "pad_token": "<pad>"}
    return _fast(tokenizer, unk_token="<unk>", mask_token="<mask>", **names)


def _fast(tokenizer: Tokenizer, **names: Any) -> Any:
    kind: Any = hf.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, **names)
