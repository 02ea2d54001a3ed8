"""N-grams of examples in text files, against a search word by word with Python's own sets."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pytest

from icl_eval.errors import DataError
from icl_eval.ngrams import NgramIndex, Words, passages, search, shared_ngrams, text_files
from icl_eval.ngrams.corpus import MAX_REPEATED

SENTENCE = [f"word{n}" for n in range(20)]


def plain_words(text: str) -> list[str]:
    return [word for each in text.lower().split() if (word := re.sub(r"[^\w]|_", "", each))]


def dirty_by_hand(texts: Sequence[str], sizes: Sequence[int], documents: Sequence[str]) -> set[int]:
    there = {
        tuple(words[i:j]) for words in map(plain_words, documents) for i in range(len(words)) for j in range(i + 14)
    }
    dirty = set()
    for number, (text, most) in enumerate(zip(texts, sizes, strict=True)):
        words = plain_words(text)
        size = min(most, len(words))
        if size and any(tuple(words[i : i + size]) in there for i in range(len(words) - size + 1)):
            dirty.add(number)
    return dirty


def found_in(files: Sequence[Path], texts: Sequence[str], sizes: Sequence[int], block: int = 50) -> set[int]:
    """The texts that are found in small blocks and batches."""
    index = NgramIndex(texts, sizes)
    hits = search(index, passages(text_files(files), "text", index.longest, block=block), batch_size=80)
    return {owner for occurrence, _ in hits for owner in index.owners(occurrence)}


@pytest.mark.parametrize("length", [8, 12, 13])
def test_a_planted_ngram_is_found_across_lines_and_blocks_if_it_is_long_enough(length: int, tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    words = [*(f"w{n}" for n in range(300)), *(f"{word}," for word in SENTENCE[:length]), *(f"v{n}" for n in range(99))]
    file.write_text("\n".join(" ".join(words[i : i + 3]) for i in range(0, len(words), 3)))
    example = " ".join(SENTENCE)

    assert [found_in([file], [example], [size]) for size in (8, 12, 13)] == [
        {0} if size <= length else set() for size in (8, 12, 13)
    ]


def test_dirty_examples_are_those_that_a_search_word_by_word_finds(tmp_path: Path) -> None:
    draw = random.Random(5)
    vocabulary = ["a", "be", "see", "Ärger", "don't", "e-mail", "x²", "—", "naïve", "ΣΟΦΙΑ", "7", "_b_", "日本"]
    documents = [" ".join(draw.choices(vocabulary, k=draw.randrange(1, 60))) for _ in range(40)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randrange(0, 20))) for _ in range(300)]
    sizes = draw.choices([2, 3, 4, 9], k=300)
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in documents))
    expected = dirty_by_hand(texts, sizes, documents)

    assert 50 < len(expected) < 250
    assert found_in([tmp_path / "documents.jsonl"], texts, sizes) == expected


def test_a_position_is_where_the_ngram_begins(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    before = "één twee\n" * 40 + "drie — "
    file.write_text(f"{before}The QUICK, brown\nfox jumps.\n" + "vier\n" * 50, encoding="utf-8")
    index = NgramIndex(["the quick brown fox jumps"], [5])
    ((found, passage),) = search(index, passages([file], "text", index.longest))

    assert index.ngram(found) == "the quick brown fox jumps"
    assert (passage.line, passage.offset) == (41, len(before.encode()))
    assert file.read_bytes()[passage.offset :].startswith(b"The QUICK, brown\nfox")


def test_a_record_is_a_separate_text_and_its_position_is_its_line(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"text": text}) for text in ("one two", "three four", "one\ttwo “three”")]
    file.write_text("\n".join(lines))
    index = NgramIndex(["one two three"], [3])
    ((_, passage),) = search(index, passages([file], "text", index.longest))

    assert (passage.line, passage.offset) == (3, len(lines[0]) + len(lines[1]) + 2)


def test_compressed_files_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("one two three")
    with pyarrow.CompressedOutputStream(str(tmp_path / "b" / "c.jsonl.zst"), "zstd") as stream:
        stream.write(b'{"text": "four five six"}\n')
    (tmp_path / "weights.bin").write_bytes(b"\0")

    assert found_in([tmp_path], ["one two three", "four five six", "seven"], [3, 3, 3]) == {0, 1}


def test_words_are_compared_in_one_form() -> None:
    same = ["Cafe\u0301 l’été — 3,5 %", "café lété 35", "CAFÉ\u00a0L'ÉTÉ…\t(35)"]

    assert len({tuple(Words.of(text).hashes) for text in same}) == 1
    assert len(Words.of(" \n — … ")) == len(Words.of("")) == 0


def test_ngrams_of_all_examples_do_not_count() -> None:
    texts = [f"is the word used in the same sense {n} here" for n in range(5)]

    assert [len(shared_ngrams(texts, size)) for size in (8, 9)] == [1, 0]
    assert len(shared_ngrams(texts[:1], 8)) == 0


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"words \0 more", "this is not a text file: it has a zero byte at 6"),
        ("a.txt", b"caf\xe9 au lait", "not UTF-8: byte 0xe9 at 3"),
        ("a.txt.gz", b"words", "cannot be read: Not a gzipped file"),
        ("a.txt.zst", b"words", "cannot be read: "),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "a.jsonl:2: this line is not JSON"),
        ("a.jsonl", b'{"body": "a"}', "has no text in a field 'text'; --text-field names another, such as 'body'"),
        ("a.jsonl", b"[1]", "has no text in a field 'text'"),
    ],
)
def test_a_file_that_is_no_text_is_one_sentence(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        found_in([tmp_path / name], ["a b c"], [3])

    assert sentence in str(caught.value)


def test_a_path_without_text_files_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this file or folder does not exist"):
        text_files([tmp_path / "none"])
    with pytest.raises(DataError, match="this folder has no text files"):
        text_files([tmp_path])


def test_a_part_repeats_few_words_more_than_it_must(tmp_path: Path) -> None:
    file, block = tmp_path / "corpus.txt", MAX_REPEATED
    file.write_text("a b c d e f " * (block // 6))
    first, *others = (each.text for each in passages([file], "text", 12, block=block))

    assert len(first) == block
    assert others
    assert max(map(len, others)) <= block + 16 * 13


def test_a_text_without_spaces_is_read_in_linear_time(tmp_path: Path) -> None:
    file, block = tmp_path / "corpus.txt", MAX_REPEATED // 4
    file.write_text("x" * 10 * MAX_REPEATED + " one two three")

    assert max(len(each.text) for each in passages([file], "text", 12, block=block)) < 2 * MAX_REPEATED + block
    assert found_in([file], ["one two three"], [3], block) == {0}
