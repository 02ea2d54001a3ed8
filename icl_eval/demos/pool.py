"""Drawing demonstrations: every candidate gets a pseudo-random rank for (seed, task, query); the lowest are shown.

A rank depends on nothing but the four names it is made of. So a draw is the same for any batch size, limit, order of
the data and machine, a smaller draw is a prefix of a larger one, and leaving out a candidate moves no other.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import DataError
from icl_eval.tasks.definition import Protocol
from icl_eval.tasks.example import Example
from icl_eval.tasks.records import groups_of
from icl_eval.tasks.task import Task


class Pool:
    """The examples that may be shown for a task's queries.

    Args:
        task: the task's name, part of every rank.
        candidates: solved examples; of a group (the answers of one question) one, drawn with it, stands for all.
        protocol: `per_example` draws anew for every query, `per_group` for every group of queries, `fixed` once;
            `within` keeps to the query's field value.
        shares_split: the candidates are the examples that are asked, so a query's own group and cluster are left out.
        question_key: equal for examples that ask the same; no query is shown its own question, unless the protocol
            repeats.
    """

    def __init__(
        self,
        task: str,
        candidates: Sequence[Example],
        protocol: Protocol,
        *,
        shares_split: bool = False,
        question_key: Callable[[Example], str] = attrgetter("fingerprint"),
    ) -> None:
        self.task, self.protocol, self.shares_split = task, protocol, shares_split
        self._question_key = question_key
        self._questions: dict[str, frozenset[str]] = {}  # the keys of a group's members, once it has been drawn
        self._examples = candidates
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, group in enumerate(groups_of(candidates)):
            groups[group].append(index)
        self._groups = list(groups.values())
        self._keys = _hashes(groups)
        self._parts = self._partition(protocol.within)

    @classmethod
    def of(cls, task: Task, candidates: Sequence[Example]) -> Pool:
        """The pool of a task, which knows when two of its examples ask the same."""
        return cls(
            task.name,
            candidates,
            task.definition.protocol,
            shares_split=task.shares_split,
            question_key=task.question_key,
        )

    @property
    def size(self) -> int:
        """How many candidates there are, each group being one."""
        return len(self._groups)

    def draw(self, query: Example, shots: int, seed: int) -> list[Example]:
        """The first `shots` demonstrations for a query, in order of rank.

        Raises:
            DataError: the pool holds fewer candidates for this query.
        """
        if shots == 0:
            return []
        keyed_by = {"per_example": [query.id], "per_group": [query.group], "fixed": []}[self.protocol.draw]
        salt = _hash("\x1f".join([str(seed), self.task, *keyed_by]))
        part = self._part(query)
        ranked = _by_rank(_mix(part.keys ^ salt), shots)
        return [members[_lowest(members, salt)] for members in self._eligible(query, shots, part, ranked)]

    def check(self, query: Example, shots: int) -> None:
        """Raise `DataError` if `draw` would, without ranking all candidates."""
        part = self._part(query)
        for _ in self._eligible(query, shots, part, range(len(part.keys))) if shots else ():
            pass

    def _eligible(
        self, query: Example, shots: int, part: _Part, places: Iterable[int | np.intp]
    ) -> Iterator[list[Example]]:
        """The groups of the first `shots` places that may be shown for a query."""
        by_name = self.shares_split or self.protocol.draw == "per_group"  # a passage may have questions in both splits
        found = 0
        key = "" if self.protocol.repeat else self._question_key(query)
        for place in places:
            members = [self._examples[index] for index in self._groups[part.indices[place]]]
            if key in self._asked_by(members) or (by_name and any(_is_near(member, query) for member in members)):
                continue
            yield members
            found += 1
            if found == shots:
                return
        within = f" with the same {self.protocol.within}" if self.protocol.within else ""
        raise DataError(
            f"{self.task}: {shots} demonstrations were asked for, "
            f"but there are {found} for the query {query.id!r}{within}"
        )

    def _asked_by(self, members: Sequence[Example]) -> frozenset[str]:
        """The keys of the questions of a group."""
        group = members[0].group
        if group not in self._questions:
            self._questions[group] = frozenset(map(self._question_key, members))
        return self._questions[group]

    def _part(self, query: Example) -> _Part:
        return self._parts.get(_part_of(query, self.protocol.within), _EMPTY)

    def _partition(self, within: str | None) -> dict[str, _Part]:
        parts: defaultdict[str, list[int]] = defaultdict(list)
        for index in np.argsort(self._keys, kind="stable").tolist():
            parts[_part_of(self._examples[self._groups[index][0]], within) if within else ""].append(index)
        return {value: _Part(np.array(indices), self._keys[indices]) for value, indices in parts.items()}


@dataclass(frozen=True, slots=True)
class _Part:
    """The groups among which a query's demonstrations are drawn, in the order of their keys.

    Attributes:
        indices: among all groups.
        keys: hashes of their names.
    """

    indices: NDArray[np.intp]
    keys: NDArray[np.uint64]


_EMPTY = _Part(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint64))


def _is_near(candidate: Example, query: Example) -> bool:
    """Whether the candidate belongs to the group or cluster of the query, such as questions about one passage."""
    return candidate.group == query.group or candidate.cluster == query.cluster


def _lowest(members: Sequence[Example], salt: np.uint64) -> int:
    """The member of a group that stands for it in a draw."""
    return int(np.argmin(_mix(_hashes(member.id for member in members) ^ salt))) if len(members) > 1 else 0


def _by_rank(ranks: NDArray[np.uint64], wanted: int) -> Iterator[np.intp]:
    """Places from the lowest rank to the highest; sorts all of them only if more than the first few are asked for."""
    few = 2 * wanted + 16  # ranks are uniform: about so many are below the bound, and seldom fewer than are wanted
    bound = np.uint64(min(2**64 // max(len(ranks), 1) * few, 2**64 - 1))
    lowest = np.flatnonzero(ranks <= bound)
    yield from lowest[np.argsort(ranks[lowest], kind="stable")]
    yield from np.argsort(ranks, kind="stable")[len(lowest) :]


def _part_of(example: Example, within: str | None) -> str:
    if within is None:
        return ""
    if within not in example.fields:
        raise DataError(f"`protocol.within` names {within!r}, which is not a field of the example {example.id!r}")
    return str(example.fields[within])


def _hash(text: str) -> np.uint64:
    return np.uint64(_hashes([text])[0])


def _hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False)


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection whose every output bit depends on every input bit."""
    mixed, shifted = keys.copy(), np.empty_like(keys)  # new arrays for every step take longer than the steps
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= np.right_shift(mixed, np.uint64(shift), out=shifted)
        mixed *= np.uint64(factor)
    mixed ^= np.right_shift(mixed, np.uint64(31), out=shifted)
    return mixed
