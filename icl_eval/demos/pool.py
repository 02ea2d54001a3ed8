"""Drawing demonstrations: every candidate gets a pseudo-random rank for (seed, task, query); the lowest are shown.

A rank depends on nothing but the four names it is made of. So a draw is the same for any batch size, limit, order of
the data and machine, a smaller draw is a prefix of a larger one, and leaving out a candidate moves no other.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import DataError
from icl_eval.tasks.definition import Protocol
from icl_eval.tasks.example import Example
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
        self._groups: defaultdict[str, list[Example]] = defaultdict(list)
        for candidate in candidates:
            self._groups[candidate.group].append(candidate)
        self.candidates = [members[0] for members in self._groups.values()]
        self._keys = _hashes([candidate.group for candidate in self.candidates])
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

    def draw(self, query: Example, shots: int, seed: int) -> list[Example]:
        """The first `shots` demonstrations for a query, in order of rank.

        Raises:
            DataError: the pool holds fewer candidates for this query.
        """
        if shots == 0:
            return []
        part = self._parts.get(_part_of(query, self.protocol.within), np.empty(0, dtype=np.intp))
        keyed_by = {"per_example": [query.id], "per_group": [query.group], "fixed": []}[self.protocol.draw]
        salt = _hash("\x1f".join([str(seed), self.task, *keyed_by]))
        key = "" if self.protocol.repeat else self._question_key(query)
        drawn: list[Example] = []
        for place in _by_rank(_mix(self._keys[part] ^ salt), shots):
            index = part[place]
            members = self._groups[self.candidates[index].group]
            if key not in self._asked_by(members) and not any(self._is_near(member, query) for member in members):
                drawn.append(members[_lowest(members, salt)])
            if len(drawn) == shots:
                return drawn
        within = f" with the same {self.protocol.within}" if self.protocol.within else ""
        raise DataError(
            f"{self.task}: {shots} demonstrations were asked for, "
            f"but there are {len(drawn)} for the query {query.id!r}{within}"
        )

    def _asked_by(self, members: Sequence[Example]) -> frozenset[str]:
        """The keys of the questions of a group."""
        group = members[0].group
        if group not in self._questions:
            self._questions[group] = frozenset(map(self._question_key, members))
        return self._questions[group]

    def _is_near(self, candidate: Example, query: Example) -> bool:
        """Whether the candidate belongs to the group or cluster of the query, such as questions about one passage."""
        by_name = self.shares_split or self.protocol.draw == "per_group"  # a passage may have questions in both splits
        return by_name and (candidate.group == query.group or candidate.cluster == query.cluster)

    def _partition(self, within: str | None) -> dict[str, NDArray[np.intp]]:
        parts: defaultdict[str, list[int]] = defaultdict(list)
        for index, candidate in enumerate(self.candidates):
            parts[_part_of(candidate, within)].append(index)
        return {value: np.array(indices, dtype=np.intp) for value, indices in parts.items()}


def _lowest(members: Sequence[Example], salt: np.uint64) -> int:
    """The member of a group that stands for it in a draw."""
    return int(np.argmin(_mix(_hashes([member.id for member in members]) ^ salt))) if len(members) > 1 else 0


def _by_rank(ranks: NDArray[np.uint64], wanted: int) -> Iterator[np.intp]:
    """Places from the lowest rank to the highest; sorts all of them only if more than the first few are asked for."""
    few = min(len(ranks), 2 * wanted + 8)
    lowest = np.argpartition(ranks, few - 1)[:few] if few else np.empty(0, dtype=np.intp)
    yield from lowest[np.argsort(ranks[lowest], kind="stable")]
    yield from np.argsort(ranks, kind="stable")[few:]


def _part_of(example: Example, within: str | None) -> str:
    if within is None:
        return ""
    if within not in example.fields:
        raise DataError(f"`protocol.within` names {within!r}, which is not a field of the example {example.id!r}")
    return str(example.fields[within])


def _hash(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([_hash(text) for text in texts], dtype=np.uint64)


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection whose every output bit depends on every input bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
