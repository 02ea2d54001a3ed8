"""Formats of a prompt: variants of the same meaning, from a grammar, drawn by seed.

The grammar is that of FormatSpread (Sclar et al. 2024, arXiv 2310.11324, section 3.1), applied to a template. A field
is a name and a colon at the beginning of a line; fields are separated by line breaks; options are listed with
`letters`. Only text of the template itself is changed, never text from a record.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal, NamedTuple

from jinja2 import nodes

SEPARATORS = (": ", " : ", ":: ", "::: ", ":", "::", " - ", "- ", " ", "\t", ":\n", "\n", "\n\t")  # name and text
SPACINGS = ("\n", " ", "  ", " \n", ", ", " , ", "; \n", ". ", " -- ", " || ")  # between fields
CASINGS: Mapping[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "title": str.title}  # of names
ENUMERATORS = tuple(mark.format(first) for first in "Aa1iI" for mark in ("{}.", "{})", "({})", "[{}]"))
ROMAN = tuple(each for each in ENUMERATORS if "i" in each.lower())
BREAKS = ("\n", "\n\n", "\n\n\n")  # between demonstrations

NAME = r"[^\W\d_][^\W_]*(?:[ ;-][^\W_]+){0,3}"  # name of a field: at most four words
FIELD = re.compile(rf"^(?P<name>{NAME})(?P<colon>:(?: |\n|\Z))", re.MULTILINE)
COLON = re.compile(r"(?P<colon>:(?: |\n|\Z))")  # after a name that is written by an expression
OPENERS, CLOSERS = "([", ".)]:"
LISTED = re.compile(r"\bA\b\W{1,4}(?:or |and )?\bB\b")  # text such as "A, B or C"; enumerators are then unchanged
CHAT = re.compile(r"<\|[^|<>]+\|>|\[/?INST\]|<\w+_of_turn>")  # markup of chats; line breaks are then unchanged
MOST_OPTIONS = 702  # A to ZZ
NUMERALS = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))

Kind = Literal["name", "separator", "heading", "last", "lead", "spacing", "opener", "closer"]
FIELD_BLOCKS = ("query", "demonstration", "instruction", "answer_context")  # the blocks that may contain fields


@dataclass(frozen=True, slots=True)
class Format:
    """How a variant differs from its prompt; None for each part in which it does not.

    Attributes:
        separator: the text between the name of a field and its value.
        casing: the letter case of names, a key of `CASINGS`.
        spacing: the text between fields.
        enumerator: the mark of the first option, such as `(A)`.
        line_breaks: the line breaks between demonstrations.
    """

    separator: str | None = None
    casing: str | None = None
    spacing: str | None = None
    enumerator: str | None = None
    line_breaks: str | None = None

    @property
    def words(self) -> str:
        """A description of the differences, such as `separator " - ", names upper`."""
        quoted = {"separator": self.separator, "spacing": self.spacing, "demonstrations": self.line_breaks}
        plain = {"names": self.casing, "options": self.enumerator}
        differences = {name: json.dumps(text) for name, text in quoted.items() if text is not None}
        differences |= {name: text for name, text in plain.items() if text is not None}
        return ", ".join(f"{name} {text}" for name, text in differences.items())

    @property
    def letters(self) -> tuple[str, ...] | None:
        """The names of options in order, such as `i`, `ii`; None for `A`, `B`."""
        if self.enumerator is None:
            return None
        first = self.enumerator.strip("".join((OPENERS, CLOSERS)))
        return tuple(_numeral(first, index) for index in range(MOST_OPTIONS))


class Edit(NamedTuple):
    """A piece of a template's own text that formats change.

    Attributes:
        kind: what the piece is, which decides how it is changed.
        data: the node of the template that contains it.
        start, end: its offsets in the text of the node.
        in_prompt: whether it is in prompts, not only in the context of the unconditional likelihood.
    """

    kind: Kind
    data: nodes.TemplateData
    start: int
    end: int
    in_prompt: bool = True

    @property
    def text(self) -> str:
        """The text of the piece in the prompt."""
        return self.data.data[self.start : self.end]

    def replaced(self, format: Format) -> str:
        """The text of the piece in a format."""
        separator, mark = format.separator, format.enumerator
        if self.kind == "name":
            return self.text if format.casing is None else CASINGS[format.casing](self.text)
        if self.kind == "spacing":
            return self.text if format.spacing is None else format.spacing
        if self.kind in ("opener", "closer"):
            opener = mark[: len(mark) - len(mark.lstrip(OPENERS))] if mark else ""
            return self.text if mark is None else opener if self.kind == "opener" else mark.lstrip(OPENERS)[1:]
        if separator is None:
            return self.text
        if self.kind == "lead":
            return " " * separator.endswith(" ")
        return {"heading": separator.rstrip(), "last": separator.rstrip(" ")}.get(self.kind, separator)


def edits_of(blocks: Mapping[str, nodes.Block]) -> list[Edit]:
    """The pieces of a prompt's blocks, which must include `answer`, that formats change.

    If the query ends with the name of a field, a space at the start of the answer is part of the field's separator.
    """
    pieces = {name: [*_pieces(block.body)] for name, block in blocks.items()}
    found: list[Edit] = []
    names: set[str] = set()
    for block in (name for name in FIELD_BLOCKS if name in pieces):
        fields = [*_fields(pieces[block], names if block == "instruction" else None)]
        names |= {edit.text for edit in fields if edit.kind == "name"}
        found += fields if block != "answer_context" else [edit._replace(in_prompt=False) for edit in fields]
        if block == "query" and fields and fields[-1].kind == "last":
            lead = pieces["answer"][0] if pieces["answer"] else None
            if isinstance(lead, nodes.TemplateData) and lead.data.startswith(" "):
                found.append(Edit("lead", lead, 0, 1))
    if not _contains(pieces, LISTED):
        found += [edit for block in ("query", "demonstration") for edit in _enumerators(pieces.get(block, ()))]
    return found if _contains(pieces, CHAT) else found + _spacings(pieces, found)


def apply(edits: Sequence[Edit], format: Format) -> None:
    """Change the text of a template to that of a format, in place."""
    of_data: dict[int, list[Edit]] = {}
    for edit in edits:
        of_data.setdefault(id(edit.data), []).append(edit)
    for of_one in of_data.values():
        text = of_one[0].data.data
        for edit in sorted(of_one, key=lambda edit: edit.start, reverse=True):
            text = text[: edit.start] + edit.replaced(format) + text[edit.end :]
        of_one[0].data.data = text


def renamed(edits: Sequence[Edit], format: Format) -> dict[str, str]:
    """For each name of a field with its colon, such as `Question:`, the text of a format that replaces it.

    Names that do not change are left out. The text begins with a line break.
    """
    pairs = [(one, other) for one, other in pairwise(edits) if one.kind == "name"]
    changed = {f"{name.text}:": name.replaced(format) + after.replaced(format).rstrip(" ") for name, after in pairs}
    return {before: f"\n{after}" for before, after in changed.items() if after != before}


class Formats:
    """All formats of a prompt; the first one is the prompt itself.

    Args:
        blocks: the blocks of the prompt, which must include `answer`.
        line_breaks: the text between its demonstrations.
    """

    def __init__(self, blocks: Mapping[str, nodes.Block], line_breaks: str) -> None:
        self._edits = edits = [edit for edit in edits_of(blocks) if edit.in_prompt]
        if {edit.kind for edit in edits} <= {"spacing"}:
            self._edits = edits = []  # lines without names
        self._casings = self._distinct("casing", tuple(CASINGS))
        # options are chosen by their letter: `i` would be a prefix of `ii`
        ranked = any(map(_is_letter, blocks["answer"].find_all(nodes.Getitem)))
        self._enumerators = self._distinct(
            "enumerator", [each for each in ENUMERATORS if not ranked or each not in ROMAN]
        )
        separators, spacings = self._distinct("separator", SEPARATORS), self._distinct("spacing", SPACINGS)
        self._layouts = [pair for pair in product(separators, spacings) if self._is_readable(*pair)]
        longest = max((len(each.text) for each in edits if each.kind == "spacing"), default=0)
        others = [each for each in BREAKS if not line_breaks.strip("\n") and len(each) > longest]
        self._breaks = [None, *(each for each in others if each != line_breaks)]

    def __len__(self) -> int:
        """The number of formats that differ even without demonstrations."""
        return len(self._layouts) * len(self._casings) * len(self._enumerators)

    def drawn(self, number: int, seed: int) -> list[Format]:
        """`number` formats drawn by seed; a smaller number gives the first of the same formats."""
        found = dict.fromkeys([0])
        attempt = 0
        while len(found) < number:
            found[_hash(seed, attempt) % len(self)] = None
            attempt += 1
        return [self._format(index, seed) if index else Format() for index in found]

    def _format(self, index: int, seed: int) -> Format:
        rest, layout = divmod(index, len(self._layouts))
        enumerator, casing = divmod(rest, len(self._casings))
        separator, spacing = self._layouts[layout]
        line_breaks = self._breaks[_hash(seed, index, "demonstrations") % len(self._breaks)]
        return Format(separator, self._casings[casing], spacing, self._enumerators[enumerator], line_breaks)

    def _distinct(self, slot: str, values: Sequence[str]) -> list[str | None]:
        """The values of a slot that give different prompts; the first one is None, for that of the prompt itself."""
        seen: dict[tuple[str, ...], str | None] = {}
        for value in (None, *values):
            format = Format(**{slot: value})
            seen.setdefault((*(edit.replaced(format) for edit in self._edits), *self._numerals(format)), value)
        return [*seen.values()]

    def _numerals(self, format: Format) -> Sequence[str]:
        """The name of the first option, if the prompt lists options."""
        if all(edit.kind != "closer" for edit in self._edits):
            return ()
        return (format.letters or string.ascii_uppercase)[:1]

    def _is_readable(self, separator: str | None, spacing: str | None) -> bool:
        """Whether fields can be distinguished: if the value of a field is on a new line, so must be the next name."""
        own = {kind: [edit.text for edit in self._edits if edit.kind == kind] for kind in ("separator", "spacing")}
        broken = "\n" in separator if separator else any("\n" in each for each in own["separator"])
        return not broken or not own["spacing"] or spacing is None or "\n" in spacing


def _pieces(body: Sequence[nodes.Node]) -> Iterator[nodes.Node]:
    """Texts and expressions in order; a loop or a condition comes before its contents."""
    for node in body:
        if isinstance(node, nodes.Output):
            for index, each in reversed([*enumerate(node.nodes)]):
                if _is_letter(each) and not (index and isinstance(node.nodes[index - 1], nodes.TemplateData)):
                    node.nodes.insert(index, nodes.TemplateData("", lineno=each.lineno, environment=each.environment))
            yield from node.nodes
        elif isinstance(node, nodes.For | nodes.If):
            yield node
            yield from _pieces([*node.body, *getattr(node, "elif_", ()), *node.else_])


def _is_letter(node: nodes.Node) -> bool:
    """Whether a node is the name of an option, `letters[...]`."""
    return isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name == "letters"


def _begins_line(pieces: Sequence[nodes.Node], index: int) -> bool:
    """Whether a piece is at the beginning of a line: the text before it ends with a line break, or there is none."""
    for before in reversed(pieces[:index]):
        text = before.data if isinstance(before, nodes.TemplateData) else getattr(before, "value", None)
        if isinstance(before, nodes.For | nodes.If) or text == "":
            continue
        return isinstance(text, str) and text.endswith("\n")
    return True


def _fields(pieces: Sequence[nodes.Node], known: set[str] | None) -> Iterator[Edit]:
    """The names of fields and their separators, in order; only those with `known` names, if these are given."""
    for index, piece in enumerate(pieces):
        if not isinstance(piece, nodes.TemplateData):
            continue
        after = pieces[index + 1] if index + 1 < len(pieces) else None
        before = pieces[index - 1] if index else None
        is_value = isinstance(before, nodes.Expr) and not _is_letter(before)
        if known is None and is_value and _begins_line(pieces, index - 1) and (colon := COLON.match(piece.data)):
            yield _separator(piece, *colon.span("colon"), after)
        for found in FIELD.finditer(piece.data):
            if found.start() == 0 and not _begins_line(pieces, index):
                continue
            if known is None or found["name"] in known:
                yield Edit("name", piece, *found.span("name"))
                yield _separator(piece, *found.span("colon"), after)


def _separator(data: nodes.TemplateData, start: int, end: int, after: nodes.Node | None) -> Edit:
    """The piece between a name and its value, or after a name that has no value."""
    at_end = end == len(data.data)
    breaks = data.data[start:end].endswith("\n")
    if at_end and after is None and not breaks:
        return Edit("last", data, start, end)
    if (breaks and not (at_end and isinstance(after, nodes.Expr))) or (
        at_end and isinstance(after, nodes.For | nodes.If)
    ):
        return Edit("heading", data, start, start + 1)
    return Edit("separator", data, start, end)


def _enumerators(pieces: Sequence[nodes.Node]) -> Iterator[Edit]:
    """The marks around the names of options."""
    for before, letter, after in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if not (_is_letter(letter) and isinstance(after, nodes.TemplateData) and after.data[:1] in tuple(CLOSERS)):
            continue
        if isinstance(before, nodes.TemplateData):
            length = len(before.data)
            yield Edit("opener", before, length - (before.data[-1:] in tuple(OPENERS)), length)
            yield Edit("closer", after, 0, 1)


def _contains(pieces: Mapping[str, Sequence[nodes.Node]], pattern: re.Pattern[str]) -> bool:
    """Whether a pattern is in the template's own text."""
    texts = (piece.data for each in pieces.values() for piece in each if isinstance(piece, nodes.TemplateData))
    return any(pattern.search(text) for text in texts)


def _spacings(pieces: Mapping[str, Sequence[nodes.Node]], fields: Sequence[Edit]) -> list[Edit]:
    """The line breaks between fields: the shortest sequences of them in a query, as longer ones separate paragraphs."""
    taken = {(id(edit.data), edit.end) for edit in fields if edit.kind == "heading"}
    taken |= {(id(edit.data), edit.end - 1) for edit in fields if edit.kind == "separator" and edit.text.endswith("\n")}
    names = {(id(edit.data), edit.start) for edit in fields if edit.kind == "name"}
    found = []
    for block in (name for name in FIELD_BLOCKS[:3] if name in pieces):
        for index, piece in enumerate(pieces[block]):
            for run in re.finditer("\n+", getattr(piece, "data", "")):
                is_edge = (index == 0 and run.start() == 0) or (
                    index == len(pieces[block]) - 1 and run.end() == len(piece.data)  # type: ignore[attr-defined]
                )
                before_name = block != "instruction" or (id(piece), run.end()) in names
                if not is_edge and before_name and (id(piece), run.start()) not in taken:
                    found.append((block, Edit("spacing", piece, *run.span())))  # type: ignore[arg-type]
    shortest = min((edit.end - edit.start for block, edit in found if block == "query"), default=0)
    return [edit for _, edit in found if edit.end - edit.start == shortest]


def _numeral(first: str, index: int) -> str:
    """The name of the option with this index in the enumeration that begins with `first`."""
    if first == "1":
        return str(index + 1)
    if first.lower() == "i":
        rest, numeral = index + 1, ""
        for value, letters in NUMERALS:
            numeral += letters * (rest // value)
            rest %= value
        return numeral.upper() if first == "I" else numeral
    letters = string.ascii_uppercase if first == "A" else string.ascii_lowercase
    higher, lower = divmod(index, len(letters))
    return (letters[higher - 1] if higher else "") + letters[lower]


def _hash(*words: object) -> int:
    return int.from_bytes(hashlib.blake2b("\x1f".join(map(str, ("format", *words))).encode(), digest_size=8).digest())
