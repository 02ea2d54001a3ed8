"""Encoders for the tests of tokens and windows: one whose merges can be read, and a trained byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

MERGES = ("==", "hello", "hel", "lo", "x =", " yes", "ab", "abc", "\n\n")


class GreedyEncoder:
    """Takes the longest known piece from left to right, else a character: pieces merge across any boundary."""

    def __init__(self, merges: Iterable[str] = MERGES) -> None:
        self.merges = sorted(merges, key=len, reverse=True)
        self.names: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.names.setdefault(piece, len(self.names)) for piece in self.pieces(text)] for text in texts]

    def pieces(self, text: str) -> list[str]:
        found = []
        while text:
            piece = next((merge for merge in self.merges if text.startswith(merge)), text[0])
            found.append(piece)
            text = text[len(piece) :]
        return found

    def decode(self, ids: Iterable[int]) -> str:
        texts = list(self.names)
        return "".join(texts[each] for each in ids)


def byte_level_bpe(sentences: Sequence[str], size: int = 400) -> Tokenizer:
    """A tokenizer like GPT-2's, trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer
