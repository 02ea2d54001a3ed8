"""Drawing demonstrations: every candidate gets a pseudo-random rank for (seed, task, query); the lowest are drawn.

A rank depends only on the four names that are hashed. So a draw is the same for any batch size, limit, order of
the data and machine, a smaller draw is a prefix of a larger one, and removing a candidate does not move others. A
balanced draw takes the lowest ranks of each label in turn. `first` keeps the order of the data instead.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from operator import attrgetter, itemgetter

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks.definition import Protocol
from icl_eval.tasks.example import Example
from icl_eval.tasks.records import groups_of, ids_of
from icl_eval.tasks.task import Task

BLOCK = 2**14  # ranks that are computed at once, so that they stay in the processor's cache
FEW = 16  # candidates examined beyond twice the number requested
UNMOVED_BELOW = 2**33 - 1  # lower bits of a rank: only these change in the last step of mixing


class Pool:
    """The candidate demonstrations of a task's queries.

    Args:
        task: the task's name, part of every rank.
        candidates: solved examples; of a group (the answers of one question) one, drawn with it, stands for all.
        protocol: `per_example` draws for every query, `per_group` for every group of queries, `fixed` once, and
            `first` takes the first ones, or those of `ids` in their order; `balanced` takes as many of each label;
            `within` keeps to the query's field value.
        shares_split: the candidates are also the queries, so those of a query's group and cluster are excluded.
        question_key: equal for examples with the same question. A query never gets its own question, unless the
            protocol repeats.
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
        self._questions: dict[str, frozenset[str]] = {}  # by the id of a group's first member: the keys of all
        self._examples = candidates = _listed(task, candidates, protocol.ids)
        groups: dict[str, int] = {}  # the number of each, in the order of their first members
        names = groups_of(candidates) if protocol.ids is None else protocol.ids  # each listed one is drawn
        numbers = np.array([groups.setdefault(name, len(groups)) for name in names], dtype=np.intp)
        self._by_group = np.argsort(numbers, kind="stable")
        self._ends = np.cumsum(np.bincount(numbers, minlength=len(groups)))
        self._keys = _hashes(groups)
        self._labels: dict[_Part, dict[str, NDArray[np.intp]]] = {}  # of each label, where its candidates are in a part
        self._parts = self._partition(protocol.within)

    @classmethod
    def of(cls, task: Task, candidates: Sequence[Example]) -> Pool:
        """The pool of a task, which knows when two of its examples have the same question."""
        return cls(
            task.name,
            candidates,
            task.definition.protocol,
            shares_split=task.shares_split,
            question_key=task.question_key,
        )

    def _group(self, number: int | np.intp) -> list[Example]:
        """The candidates of a group, in their order."""
        start = self._ends[number - 1] if number else 0
        return [self._examples[index] for index in self._by_group[start : self._ends[number]].tolist()]

    @property
    def candidates(self) -> Sequence[Example]:
        """The candidates themselves."""
        return self._examples

    @property
    def size(self) -> int:
        """How many candidates there are, each group being one."""
        return len(self._keys)

    def draw(self, query: Example, shots: int, seed: int) -> list[Example]:
        """The first `shots` demonstrations for a query, in order of rank, or of the data.

        Raises:
            DataError: the pool holds fewer candidates for this query.
        """
        if shots == 0:
            return []
        part = self._part(query)
        if self.protocol.draw == "first":
            return [members[0] for members in self._take(shots, query, self._eligible(query, part))]
        keyed_by = {"per_example": [query.id], "per_group": [query.group], "fixed": []}[self.protocol.draw]
        salt = _hash("\x1f".join([str(seed), self.task, *keyed_by]))
        if self.protocol.balanced:
            found = self._balanced(query, part, _finished(_unfinished(part.folded, salt)))
        else:
            found = self._eligible(query, part, _by_rank(part.folded, salt, shots))
        return [members[_lowest(members, salt)] for members in self._take(shots, query, found)]

    def check(self, query: Example, shots: int) -> None:
        """Raise `DataError` if `draw` would, without ranking all candidates."""
        if shots == 0:
            return
        part = self._part(query)
        if self.protocol.balanced:  # the order makes no difference to whether there are enough
            self._take(shots, query, self._balanced(query, part, np.arange(len(part.folded), dtype=np.uint64)))
        elif not self._suffices(part, shots):
            self._take(shots, query, self._eligible(query, part))

    def _suffices(self, part: _Part, shots: int) -> bool:
        """Whether a few groups of a part hold enough for any query, whichever of them it excludes."""
        if shots not in part.sufficient:
            some = [self._members(part, position) for position in range(min(2 * shots + FEW, len(part.indices)))]
            questions = Counter(key for members in some for key in self._question_keys(members))
            clusters = Counter(cluster for members in some for cluster in {member.cluster for member in members})
            excluded = 1 + max(questions.values(), default=0) + max(clusters.values(), default=0)  # 1: its own group
            part.sufficient[shots] = len(some) - excluded >= shots
        return part.sufficient[shots]

    def _eligible(
        self, query: Example, part: _Part, positions: Iterable[int | np.intp] | None = None
    ) -> Iterator[list[Example]]:
        """The groups at some positions of a part, or at all, that may be drawn for a query."""
        by_name = self.shares_split or self.protocol.draw == "per_group"  # a passage may have questions in both splits
        key = "" if self.protocol.repeat else self._question_key(query)
        for position in range(len(part.indices)) if positions is None else positions:
            members = self._members(part, position)
            if key in self._question_keys(members) or (by_name and any(_is_near(member, query) for member in members)):
                continue
            yield members

    def _balanced(self, query: Example, part: _Part, ranks: NDArray[np.uint64]) -> Iterator[list[Example]]:
        """In every round, the lowest rank that is left of each label, in order of rank.

        Raises:
            DataError: a round finds no candidate with one of the labels.
        """
        of_label = {
            label: (
                (ranks[position], self._eligible(query, part, [position]))
                for position in positions[np.argsort(ranks[positions])]
            )
            for label, positions in self._positions_by_label(part).items()
        }
        for number in count(1):
            chosen = []
            for label, candidates in of_label.items():
                found = next(((rank, members) for rank, eligible in candidates for members in eligible), None)
                if found is None:
                    raise DataError(
                        f"{self.task}: a balanced draw needs {number} demonstrations with the label {label!r} for the "
                        f"query {query.id!r}, and there are {number - 1}"
                    )
                chosen.append(found)
            yield from (members for _, members in sorted(chosen, key=itemgetter(0)))

    def _positions_by_label(self, part: _Part) -> dict[str, NDArray[np.intp]]:
        """The positions in a part of the candidates with each label.

        Where all candidates have the same options, one that is right for none of them is a label, too.
        """
        if part not in self._labels:
            labels: defaultdict[str, list[int]] = defaultdict(list)
            for position, index in enumerate(part.indices):
                members = self._group(index)
                if len(members) > 1:
                    raise DataError(
                        f"{self.task}: a balanced draw needs examples without groups, but {members[0].group!r} is a "
                        f"group of {len(members)}"
                    )
                labels[members[0].options[members[0].gold[0]]].append(position)
            first_members = [self._group(index)[0] for index in part.indices]
            if len({each.options for each in first_members}) == 1:
                right = {index for each in first_members for index in each.gold}
                labels |= {option: [] for index, option in enumerate(first_members[0].options) if index not in right}
            self._labels[part] = {label: np.array(positions, dtype=np.intp) for label, positions in labels.items()}
        return self._labels[part]

    def _take(self, shots: int, query: Example, found: Iterable[list[Example]]) -> list[list[Example]]:
        """The first `shots` groups.

        Raises:
            DataError: there are fewer.
        """
        taken = list(islice(found, shots))
        if len(taken) == shots:
            return taken
        within = f" with the same {self.protocol.within}" if self.protocol.within else ""
        raise DataError(
            f"{self.task}: {shots} demonstrations were requested, "
            f"but there are {len(taken)} for the query {query.id!r}{within}"
        )

    def _members(self, part: _Part, position: int | np.intp) -> list[Example]:
        return self._group(part.indices[position])

    def _question_keys(self, members: Sequence[Example]) -> frozenset[str]:
        """The keys of the questions of a group."""
        first = members[0].id
        if first not in self._questions:
            self._questions[first] = frozenset(map(self._question_key, members))
        return self._questions[first]

    def _part(self, query: Example) -> _Part:
        return self._parts.get(_part_of(query, self.protocol.within), _EMPTY)

    def _partition(self, within: str | None) -> dict[str, _Part]:
        in_order = self.protocol.draw == "first"
        order = np.arange(len(self._keys)) if in_order else np.argsort(self._keys, kind="stable")
        if within is None:
            return {"": _Part(order, _folded(self._keys[order]))}
        parts: defaultdict[str, list[int]] = defaultdict(list)
        for index in order.tolist():
            parts[_part_of(self._group(index)[0], within)].append(index)
        return {value: _Part(np.array(indices), _folded(self._keys[indices])) for value, indices in parts.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The groups among which a query's demonstrations are drawn, in the order of their keys, or that of the data.

    Attributes:
        indices: among all groups.
        folded: hashes of their names, after the first step of `_mix`, which does not depend on a query.
        sufficient: by a number of shots, whether a few of them hold enough for any query.
    """

    indices: NDArray[np.intp]
    folded: NDArray[np.uint64]
    sufficient: dict[int, bool] = field(default_factory=dict)


_EMPTY = _Part(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint64))


def _listed(task: str, candidates: Sequence[Example], ids: Sequence[str] | None) -> Sequence[Example]:
    """The candidates with these ids, in their order; all, if there are none.

    Raises:
        UnknownName: an id is that of no candidate.
    """
    if ids is None:
        return candidates
    index_of = {id: index for index, id in enumerate(ids_of(candidates))}
    for id in ids:
        if id not in index_of:
            raise UnknownName(f"demonstration of {task}", id, index_of)
    return [candidates[index_of[id]] for id in ids]


def _is_near(candidate: Example, query: Example) -> bool:
    """Whether the candidate belongs to the group or cluster of the query, such as questions about one passage."""
    return candidate.group == query.group or candidate.cluster == query.cluster


def _lowest(members: Sequence[Example], salt: np.uint64) -> int:
    """The member of a group that stands for it in a draw."""
    return int(np.argmin(_mix(_hashes(member.id for member in members), salt))) if len(members) > 1 else 0


def _by_rank(folded: NDArray[np.uint64], salt: np.uint64, wanted: int) -> Iterator[np.intp]:
    """Places from the lowest rank to the highest; all of them are sorted only if more than the first few are used."""
    few = 2 * wanted + FEW  # ranks are uniform: about so many are below the bound, and seldom fewer than are wanted
    bound = min(2**64 // max(len(folded), 1) * few, 2**64 - 1) | UNMOVED_BELOW
    low = [
        np.flatnonzero(_unfinished(folded[start : start + BLOCK], salt) <= np.uint64(bound)) + start
        for start in range(0, len(folded), BLOCK)
    ]
    lowest = np.concatenate([*low, np.empty(0, dtype=np.intp)])
    yield from lowest[np.argsort(_finished(_unfinished(folded[lowest], salt)), kind="stable")]
    yield from np.argsort(_finished(_unfinished(folded, salt)), kind="stable")[len(lowest) :]


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


def _mix(keys: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """Ranks: SplitMix64's finaliser (Steele et al. 2014) of `keys ^ salt`.

    It is a bijection whose every output bit depends on every input bit. Its first step, `_folded`, is the same for keys
    and salt apart and together. Its last, `_finished`, leaves the upper bits as they are, so the lowest ranks are found
    before it.
    """
    return _finished(_unfinished(_folded(keys), salt))


def _folded(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return keys ^ (keys >> np.uint64(30))


def _unfinished(folded: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    mixed = folded ^ (salt ^ (salt >> np.uint64(30)))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed


def _finished(unfinished: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return unfinished ^ (unfinished >> np.uint64(31))
