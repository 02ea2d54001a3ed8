"""Control tokens such as `<|im_end|>`: in a prompt file, their names become control tokens; in a record, they are text.

Before a record is rendered, a mark is put before each name of a control token in it. In a rendered prompt, the marked
names are from records and are encoded as text; the others are from the prompt file.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

MARK = "\ufdd0"  # a Unicode noncharacter, reserved for internal use; if a record contains it, it is doubled
MARKED = re.compile(f"{MARK}(.?)", re.DOTALL)
PLAIN: dict[str, Any] = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
LISTED = 5  # maximum number of names in a message
SHORTEST_TAG = 3  # minimum number of characters of a name such as `<b>`


class ControlTokens:
    """The control tokens of a tokenizer of `transformers`: special tokens, and added tokens in its chat template.

    Args:
        tokenizer: the tokenizer; None for a model without control tokens.
        takes_ids: whether the model takes token ids. A server that takes text finds control tokens in it itself.
    """

    def __init__(self, tokenizer: Any = None, *, takes_ids: bool = True) -> None:
        self._tokenizer, self._takes_ids = tokenizer, takes_ids
        self.ids = {} if tokenizer is None else _control_ids(tokenizer)
        self._lower = {name.lower() for name in self.ids}
        self._sizes = sorted({len(name) for name in self.ids}, reverse=True)
        heads = {char for name in self.ids for char in (name[0], name[0].lower(), name[0].upper())}
        self._heads = re.compile("|".join(map(re.escape, sorted(heads))) if heads else "(?!)")
        self._stops = re.compile(f"{MARKED.pattern}|{self._heads.pattern}", re.DOTALL)

    @cached_property
    def unmarkable(self) -> frozenset[str]:
        """The names that cannot be encoded as text; determined when the first record contains a name."""
        if not self.ids or not self._takes_ids:
            return frozenset(self.ids)
        whole = self._tokenizer(list(self.ids), **PLAIN)["input_ids"]
        if self.encode(list(self.ids)) != [list(ids) for ids in whole]:
            return frozenset(self.ids)
        encoded = self.encode([MARK + name for name in self.ids])
        return frozenset(name for name, ids in zip(self.ids, encoded, strict=True) if self.ids[name] in ids)

    def mark(self, value: Any, unmarked: set[str] | None = None) -> Any:
        """A value of a record in which the names of control tokens are marked as text.

        Args:
            value: a text, or nested lists and mappings with texts.
            unmarked: a set to which names are added that cannot be marked, and so become control tokens.
        """
        if isinstance(value, str):
            return self._marked(value, set() if unmarked is None else unmarked)
        if isinstance(value, Mapping):
            return {key: self.mark(each, unmarked) for key, each in value.items()} if self.ids else value
        if isinstance(value, list | tuple):
            return type(value)(self.mark(each, unmarked) for each in value) if self.ids else value
        return value

    def unmark(self, text: str) -> str:
        """The text without the marks of `mark`."""
        return MARKED.sub(r"\1", text) if MARK in text and self._marks else text

    def name_in_front(self, text: str) -> str:
        """The name of the control token at the start of a text; empty if there is none."""
        return self._name_at(text, 0)

    def names_in(self, text: str) -> list[str]:
        """The names of control tokens in a text that are not marked, of those that can be marked."""
        found = (part.text for part in self._parts(text) if part.is_control) if self._heads.search(text) else ()
        return [name for name in found if name not in self.unmarkable]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts with marks."""
        parts = [list(self._parts(text)) for text in texts]
        if self._tokenizer.is_fast:
            return self._copy.encode(parts)
        return [list(chain.from_iterable(self._encoded_parts(each))) for each in parts]

    def has_marks(self, text: str) -> bool:
        """Whether a text has marks, so that it has to be encoded by `encode` of this object."""
        return MARK in text and self._marks

    @property
    def _marks(self) -> bool:
        """Whether any name can be encoded as text, so that names are marked."""
        return len(self.unmarkable) < len(self.ids)

    def _marked(self, text: str, unmarked: set[str]) -> str:
        starts = []
        for head in self._heads.finditer(text):
            if name := self._name_at(text, head.start(), any_case=True):  # a template may change the case
                if name in self.unmarkable:
                    unmarked.add(name)
                elif self._marks:
                    starts.append(head.start())
        if MARK in text and self._marks:
            starts += [index for index, char in enumerate(text) if char == MARK]
        if not starts:
            return text
        starts.sort()
        cuts = zip([0, *starts], [*starts, len(text)], strict=True)
        return MARK.join(text[start:end] for start, end in cuts)

    def _name_at(self, text: str, start: int, *, any_case: bool = False) -> str:
        """The longest name at an index of a text; empty if there is none."""
        for size in self._sizes:
            part = text[start : start + size]
            if part in self.ids or (any_case and part.lower() in self._lower):
                return part
        return ""

    def _parts(self, text: str) -> Iterator[_Part]:
        """The parts of a marked text: control tokens, and the texts between them, without marks."""
        plain, at = "", 0
        for stop in self._stops.finditer(text):
            if stop.start() < at:  # within a name
                continue
            plain += text[at : stop.start()]
            at = stop.end()
            if stop[0][0] == MARK:
                plain += stop[0][1:]
            elif name := self._name_at(text, stop.start()):
                yield from (_Part(plain, is_control=False), _Part(name, is_control=True))
                plain, at = "", stop.start() + len(name)
            else:
                plain += stop[0]
        yield _Part(plain + text[at:], is_control=False)

    @cached_property
    def _copy(self) -> _RenamedTokenizer:
        return _RenamedTokenizer(self._tokenizer, self.ids)

    def _encoded_parts(self, parts: Sequence[_Part]) -> Iterator[list[int]]:
        """Token ids of the parts of a text, from a tokenizer written in Python."""
        for before, part, after in zip([None, *parts], parts, [*parts[1:], None], strict=False):
            text = part.text
            if before and before.is_control and self._added(before).rstrip:
                text = text.lstrip()
            if after and after.is_control and self._added(after).lstrip:
                text = text.rstrip()
            if text:
                yield self._tokenizer(text, **PLAIN, split_special_tokens=not part.is_control)["input_ids"]

    def _added(self, part: _Part) -> Any:
        """The `AddedToken` of a control token, which says whether white space around it is stripped."""
        return self._tokenizer.added_tokens_decoder[self.ids[part.text]]


def about_control_tokens(names: Iterable[str]) -> str:
    """A sentence for names in records that the model gets as control tokens; empty if there are no names."""
    sorted_names = sorted(names)
    listed = ", ".join([*sorted_names[:LISTED], *(["..."] if len(sorted_names) > LISTED else [])])
    kind = "this model reads as a control token" if len(sorted_names) == 1 else "this model reads as control tokens"
    return f"records contain {listed}, which {kind}, not as text" if listed else ""


class _Part(NamedTuple):
    text: str
    is_control: bool


class _RenamedTokenizer:
    """A copy of a tokenizer whose control tokens have random names, so that it encodes their usual names as text."""

    def __init__(self, tokenizer: Any, ids: Mapping[str, int]) -> None:
        from tokenizers import Tokenizer

        key = secrets.token_hex(8)  # no text contains these names, and no result depends on them
        self._names = {name: f"\ufdd1{key}{index}\ufdd2" for index, name in enumerate(ids)}
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        for token in described["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        _rename(described["model"], self._names)
        described |= {"post_processor": None, "truncation": None, "padding": None}
        self._tokenizer = Tokenizer.from_str(json.dumps(described))
        self._ids = {self._tokenizer.token_to_id(self._names[name]): index for name, index in ids.items()}

    def encode(self, texts: Sequence[Sequence[_Part]]) -> list[list[int]]:
        """Token ids of texts, each given as its parts."""
        renamed = ["".join(self._names[part.text] if part.is_control else part.text for part in each) for each in texts]
        encoded = self._tokenizer.encode_batch(renamed, add_special_tokens=False)
        return [[self._ids.get(token, token) for token in each.ids] for each in encoded]


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename entries of a vocabulary, except bytes and merged tokens, which ordinary texts are made of."""
    merges = (pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", ()))
    merged = {"".join(pair) for pair in merges}
    new = {
        name: other for name, other in names.items() if name not in merged and (len(name) > 1 or model["type"] != "BPE")
    }
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {new.get(piece, piece): index for piece, index in vocabulary.items()}
    else:  # of Unigram
        model["vocab"] = [[new.get(piece, piece), *rest] for piece, *rest in vocabulary]
    if model.get("unk_token") in new:
        model["unk_token"] = new[model["unk_token"]]


def _control_ids(tokenizer: Any) -> dict[str, int]:
    """Names and ids of a tokenizer's control tokens."""
    template, special = str(tokenizer.chat_template or ""), set(tokenizer.all_special_tokens)
    return {
        str(token): index
        for index, token in tokenizer.added_tokens_decoder.items()
        if str(token) and (token.special or str(token) in special or (_is_tag(str(token)) and str(token) in template))
    }


def _is_tag(name: str) -> bool:
    """Whether a name is like `<think>`; added tokens may also be words or sequences of spaces."""
    ends = name[0] + name[-1]
    return len(name) >= SHORTEST_TAG and not any(char.isalnum() or char.isspace() for char in ends)
