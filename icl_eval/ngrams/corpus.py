"""Passages of text files, which are plain text or JSON lines, compressed or not, and are read in blocks."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from icl_eval.errors import DataError
from icl_eval.ngrams.words import Words

BLOCK = 2**20  # bytes
MAX_REPEATED = 2**14  # characters that successive parts of a text may have in common
SPACE = re.compile(r"\s")
PLAIN, JSON_LINES = (".txt", ".text", ".md"), (".jsonl", ".ndjson")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
KINDS = ", ".join([*PLAIN, *JSON_LINES])


@dataclass(frozen=True, slots=True)
class Passage:
    """A text in a file: a record, or a part of a plain text, which repeats the last words of the previous part.

    Attributes:
        path: the file.
        line: line on which the passage starts, counted from 1.
        offset: number of bytes before the passage in the decompressed file; for a record, before its line.
        text: the text.
        is_record: whether the passage is a field of a JSON line.
    """

    path: Path
    line: int
    offset: int
    text: str
    is_record: bool = False

    def after(self, text: str) -> Passage:
        """The rest of the passage after a text with which it starts."""
        line, offset = self.line + text.count("\n"), self.offset + _bytes(text)
        return Passage(self.path, line, offset, self.text[len(text) :])


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The text files among files and folders; those in a folder are sorted by name.

    Raises:
        DataError: a path does not exist, or a folder has no text files.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise DataError("this file or folder does not exist", path)
        return [path]
    found = sorted(each for each in path.rglob("*") if each.is_file() and _kind(each) in (*PLAIN, *JSON_LINES))
    if not found:
        raise DataError(f"this folder has no text files ({KINDS}, or one of these with {', '.join(COMPRESSED)})", path)
    return found


def passages(
    files: Sequence[Path],
    field: str,
    repeated: int,
    progress: Callable[[int], None] = lambda _: None,
    *,
    block: int = BLOCK,
) -> Iterator[Passage]:
    """Read the passages of files.

    Args:
        files: paths of files; the suffix tells the compression, and whether they are JSON lines or plain text.
        field: field of JSON lines that contains the text.
        repeated: number of words that successive parts of a plain text have in common.
        progress: called with the number of bytes that were read from disk since its last call.
        block: number of bytes that are read at once.

    Raises:
        DataError: a file cannot be read or is not text in UTF-8, or a line lacks the field; the error has the line or
            byte.
    """
    for path in files:
        with ExitStack() as stack:
            try:
                raw = stack.enter_context(path.open("rb"))
                stream = stack.enter_context(_decompressed(raw, path.suffix))
                blocks = _blocks(stream, block)
                read = _records(path, blocks, field) if _kind(path) in JSON_LINES else _parts(path, blocks, repeated)
                done = 0
                for passage in read:
                    yield passage
                    if (now := raw.tell()) - done >= block:
                        progress(now - done)
                        done = now
                progress(raw.tell() - done)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"cannot be read: {str(error).strip()}", path) from error


def _kind(path: Path) -> str:
    """The suffix of a file name, without that of the compression."""
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def _decompressed(raw: IO[bytes], suffix: str) -> Any:
    if suffix == ".zst":
        import pyarrow

        return pyarrow.CompressedInputStream(raw, "zstd")
    opened: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return opened[suffix](raw) if suffix in opened else raw


def _blocks(stream: Any, size: int) -> Iterator[bytes]:
    while block := bytes(stream.read(size)):
        yield block


def _records(path: Path, blocks: Iterator[bytes], field: str) -> Iterator[Passage]:
    offset = 0
    for number, line in enumerate(_lines(blocks), start=1):
        if line.strip():
            yield Passage(path, number, offset, _text_of(line, field, path, number), is_record=True)
        offset += len(line) + 1


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines in blocks, without line breaks."""
    parts: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    yield b"".join(parts)


def _text_of(line: bytes, field: str, path: Path, number: int) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this line is not JSON: {error}", path, number) from error
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        texts = [name for name, each in record.items() if isinstance(each, str)] if isinstance(record, dict) else []
        advice = f"; --text-field names another, such as {texts[0]!r}" if texts else ""
        raise DataError(f"this record has no text in a field {field!r}{advice}", path, number)
    return text


def _parts(path: Path, blocks: Iterator[bytes], repeated: int) -> Iterator[Passage]:
    """A plain text in parts that end after a word and begin with the last words of the part before."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, rest = 0, Passage(path, 1, 0, "")
    while True:
        block = next(blocks, b"")
        if b"\0" in block:
            raise DataError(f"this is not a text file: it has a zero byte at {read + block.index(0)}", path)
        try:
            text = rest.text + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            where = read + error.start - (len(error.object) - len(block))
            byte = error.object[error.start]
            raise DataError(f"not UTF-8: byte 0x{byte:02x} at {where} ({error.reason})", path) from error
        read += len(block)
        whole = Passage(path, rest.line, rest.offset, text if not block else text[: _end_of_words(text)])
        if whole.text:
            yield whole
        if not block:
            return
        left = whole.after(whole.text[: len(whole.text) - len(_last_words(whole.text, repeated))])
        rest = Passage(path, left.line, left.offset, left.text + text[len(whole.text) :])


def _end_of_words(text: str) -> int:
    """The end of the last word that is certain to be complete; the end of the text if it is a single word."""
    end = len(text)
    while end and not text[end - 1].isspace():
        end -= 1
    return end or len(text)


def _last_words(text: str, count: int) -> str:
    """The end of a text with a number of words, or with fewer if they are too long."""
    width, words = 16 * (count + 1), ""
    while width < len(text):
        begin = SPACE.search(text, len(text) - width)
        words = text[begin.end() :] if begin else ""
        if width >= MAX_REPEATED or len(Words.of(words)) >= count:
            return words
        width *= 2
    return text


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
