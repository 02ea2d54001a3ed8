"""Draws of demonstrations: each candidate has a pseudo-random rank for (seed, task, query); the lowest are drawn.

A rank is a hash of four names: seed, task, query and candidate. So a draw does not depend on the batch size, the limit,
the order of the data or the machine, a smaller draw is a prefix of a larger one, and removing a candidate does not
change the order of the others. A balanced draw takes the lowest rank of each label in turn. `first` keeps the order of
the data instead.

Selections by similarity order the candidates differently; ranks decide between equally good ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, count, islice
from operator import attrgetter, itemgetter

import numpy as np
from numpy.typing import NDArray

from icl_eval.demos.parts import EMPTY, Part, partition, value_of, with_ids
from icl_eval.demos.ranks import FEW, by_rank, by_score, finished, hash_of, hashes, ranks, unfinished
from icl_eval.demos.selection import Annotation, dpp, fast_vote_k, representatives
from icl_eval.demos.similarity import Encoder, QueryScores, bm25, encoded, tfidf
from icl_eval.errors import DataError, counted
from icl_eval.tasks.example import Example
from icl_eval.tasks.protocol import BY_SIMILARITY, FOR_ALL, Protocol
from icl_eval.tasks.records import groups_of
from icl_eval.tasks.task import Task
from icl_eval.values import VOTE_K

NEAREST = 100  # nearest candidates among which `dpp` selects, as in CEIL
ORGANIZED, ORGANIZATIONS = 30, 10  # nearest candidates of which `mdl` draws orders, and their number (Wu et al. 2023)
SAMPLE = 3000  # maximum number of candidates, as in Su et al. 2022


class Pool:
    """The candidates for demonstrations of a task.

    Args:
        task: the name of the task, which is part of every rank.
        candidates: solved examples. A group (the answers to one question) is one candidate; if it is drawn, one of its
            examples is shown.
        protocol: how to draw. `draw`: `per_example` for every query, `per_group` for every group of queries, `fixed`
            once, and `first` takes the first candidates, or those of `ids` in their order. `select`: the selection.
            `within`: draw from candidates with the same value of this field as the query.
        shares_split: whether the candidates are from the split of the queries; candidates of the query's group and
            cluster are then excluded.
        question_key: equal for examples with the same question. A query's own question is never drawn, unless the
            protocol has `repeat`.
        text_of: returns the text of a candidate or query that is compared, without its answer.
        queries: the queries for which demonstrations will be selected, in this order.
        encode: computes vectors of texts, which are compared instead of TF-IDF.
        sample: maximum number of candidates, drawn by seed, among which `fast-vote-k` and `diverse` select.
    """

    def __init__(
        self,
        task: str,
        candidates: Sequence[Example],
        protocol: Protocol,
        *,
        shares_split: bool = False,
        question_key: Callable[[Example], str] = attrgetter("fingerprint"),
        text_of: Callable[[Example], str] = lambda example: " ".join(map(str, example.fields.values())),
        queries: Sequence[Example] = (),
        encode: Encoder | None = None,
        sample: int = SAMPLE,
    ) -> None:
        self.task, self.protocol, self.shares_split, self._sample = task, protocol, shares_split, sample
        self._question_key, self._text_of, self._queries, self._encode = question_key, text_of, queries, encode
        self._selected: dict[tuple[Part, int], tuple[list[np.intp], Iterator[np.intp]]] = {}  # for all queries
        self._questions: dict[str, frozenset[str]] = {}  # by the id of a group's first member: the keys of all
        self._examples = candidates = with_ids(task, candidates, protocol.ids)
        groups: dict[str, int] = {}  # the number of each, in the order of their first members
        names = groups_of(candidates) if protocol.ids is None else protocol.ids  # each listed one is drawn
        numbers = np.array([groups.setdefault(name, len(groups)) for name in names], dtype=np.intp)
        self._by_group = np.argsort(numbers, kind="stable")
        self._ends = np.cumsum(np.bincount(numbers, minlength=len(groups)))
        self._keys = hashes(groups)
        self._labels: dict[Part, dict[str, NDArray[np.intp]]] = {}  # of each label, where its candidates are in a part
        self._parts = partition(
            *(self._keys, lambda number: self._group(number)[0]),
            within=protocol.within,
            in_order=protocol.draw == "first",
        )
        self._by_votes: dict[int, NDArray[np.intp]] = {}  # by seed, what `vote-k` annotates by votes alone

    @classmethod
    def of(
        cls,
        task: Task,
        candidates: Sequence[Example],
        text_of: Callable[[Example], str] | None = None,
        queries: Sequence[Example] = (),
        encode: Encoder | None = None,
    ) -> Pool:
        """The pool of a task, with the task's protocol and its test for equal questions.

        Args:
            task: the task.
            candidates: solved examples.
            text_of: as for `Pool`; by default, the query in the task's first prompt.
            queries, encode: as for `Pool`.
        """
        return cls(
            task.name,
            candidates,
            task.definition.protocol,
            shares_split=task.shares_split,
            question_key=task.question_key,
            text_of=text_of or task.query_text,
            queries=queries,
            encode=encode,
        )

    def under(self, protocol: Protocol, encode: Encoder | None = None) -> Pool:
        """The pool of the same candidates and queries with another protocol; `encode` is that of its encoder."""
        return Pool(
            self.task,
            self._examples,
            protocol,
            shares_split=self.shares_split,
            question_key=self._question_key,
            text_of=self._text_of,
            queries=self._queries,
            encode=encode,
            sample=self._sample,
        )

    def _group(self, number: int | np.intp) -> list[Example]:
        """The examples of a group, in their order."""
        start = self._ends[number - 1] if number else 0
        return [self._examples[index] for index in self._by_group[start : self._ends[number]].tolist()]

    @property
    def candidates(self) -> Sequence[Example]:
        """The solved examples."""
        return self._examples

    @property
    def size(self) -> int:
        """The number of candidates; a group is one candidate."""
        return len(self._keys)

    @property
    def seeds_differ(self) -> bool:
        """Whether draws depend on the seed, other than between equally similar candidates."""
        if self.protocol.select in FOR_ALL:
            return any(len(part.indices) > self._sample for part in self._parts.values())
        if self.protocol.selection == VOTE_K:
            return self.size > self.protocol.annotation[1]
        if self.protocol.select == "mdl":
            return True
        return self.protocol.draw != "first" and self.protocol.selection not in BY_SIMILARITY

    def draw(
        self,
        query: Example,
        shots: int,
        seed: int,
        organization: int = 0,
        *,
        annotated: NDArray[np.intp] | None = None,
    ) -> list[Example]:
        """Draw demonstrations for a query, in the order of ranks, of the data, or of a selection.

        Args:
            query: the query.
            shots: the number of demonstrations.
            seed: the seed.
            organization: for `mdl`, the index of an organisation: 0 has the nearest candidates, any other a random draw
                of the near ones.
            annotated: for `vote-k`, the indices of the annotated candidates; by default, those selected by votes.

        Raises:
            DataError: there are fewer candidates for this query.
        """
        if shots == 0:
            return []
        part = self._part(query)
        if self.protocol.draw == "first":
            return [members[0] for members in self._take(shots, query, part, self._eligible(query, part))]
        keyed_by = {"per_example": [query.id], "per_group": [query.group], "fixed": []}[self.protocol.draw]
        salt = hash_of("\x1f".join([str(seed), self.task, *keyed_by]))
        if self.protocol.selection == VOTE_K:
            order = self._near(query, salt, self._votes(seed) if annotated is None else annotated)
        else:
            order = self._ordered(query, part, salt, shots, organization)
        drawn = self._take(shots, query, part, order)
        return [self._compared(each) if self._compares else each[_lowest(each, salt)] for each in drawn]

    def draw_most(self, query: Example, seed: int, annotated: NDArray[np.intp]) -> list[Example]:
        """All annotated candidates that may be demonstrations of a query, the nearest first."""
        salt, part = hash_of("\x1f".join([str(seed), self.task, query.id])), self._part(query)
        return [self._compared(self._members(part, each)) for each in self._near(query, salt, annotated)]

    def annotation(self, seed: int) -> Annotation:
        """The candidates among which `vote-k` selects those to annotate: all, or as many as it takes, drawn by seed."""
        count, most = self.protocol.annotation
        sample = np.argsort(ranks(self._keys, hash_of(f"{seed}\x1f{self.task}")), kind="stable")[:most]
        examples = [self._compared(self._group(number)) for number in sample]
        return Annotation(sample, examples, self._scores.similarity.between(sample), min(count, len(sample)))

    def check(self, query: Example, shots: int) -> None:
        """Raise `DataError` if `draw` would, without ranking all candidates."""
        if shots == 0:
            return
        part = self._part(query)
        if self.protocol.select == "balanced":  # the order makes no difference to whether there are enough
            self._take(shots, query, part, self._balanced(query, part, np.arange(len(part.folded), dtype=np.uint64)))
        elif not self._suffices(part, shots):
            self._take(shots, query, part, self._eligible(query, part))

    def _suffices(self, part: Part, shots: int) -> bool:
        """Whether the first few groups of a part are enough for any query, even if it excludes as many as possible."""
        if shots not in part.sufficient:
            some = [self._members(part, position) for position in range(min(2 * shots + FEW, len(part.indices)))]
            questions = Counter(key for members in some for key in self._question_keys(members))
            clusters = Counter(cluster for members in some for cluster in {member.cluster for member in members})
            excluded = 1 + max(questions.values(), default=0) + max(clusters.values(), default=0)  # 1: its own group
            part.sufficient[shots] = len(some) - excluded >= shots
        return part.sufficient[shots]

    def _eligible(
        self, query: Example, part: Part, positions: Iterable[int | np.intp] | None = None
    ) -> Iterator[int | np.intp]:
        """The positions in a part, among these or all, of the groups that may be drawn for a query."""
        by_name = self.shares_split or self.protocol.draw == "per_group"  # a passage may have questions in both splits
        by_name = by_name or (self._compares and {query.group, query.cluster} != {query.id})
        key = "" if self.protocol.repeat else self._question_key(query)
        for position in range(len(part.indices)) if positions is None else positions:
            members = self._members(part, position)
            if key in self._question_keys(members) or (
                by_name and any(_is_related(member, query) for member in members)
            ):
                continue
            yield position

    def _ordered(
        self, query: Example, part: Part, salt: np.uint64, shots: int, organization: int
    ) -> Iterator[int | np.intp]:
        """The positions in a part of the groups that may be drawn for a query, in the order of the selection."""
        if self.protocol.select == "random":
            return self._eligible(query, part, by_rank(part.folded, salt, shots))
        if self.protocol.select == "balanced":
            return self._balanced(query, part, finished(unfinished(part.folded, salt)))
        if self.protocol.select in FOR_ALL:
            return self._eligible(query, part, self._for_all(part, salt))
        scores = self._scores.of(query)[part.indices]
        found = self._eligible(query, part, by_score(scores, part.folded, salt, max(shots, NEAREST)))
        if self.protocol.select == "mdl" and organization:
            near = np.array([*islice(found, ORGANIZED)], dtype=np.intp)
            salt = hash_of(f"{salt}\x1forganization {organization}")
            return chain(near[np.argsort(ranks(self._keys[part.indices[near]], salt), kind="stable")], found)
        if self.protocol.select != "dpp":
            return found
        nearest = np.array([*islice(found, NEAREST)], dtype=np.intp)
        order = dpp(scores[nearest], self._scores.similarity.between(part.indices[nearest]))
        return chain((nearest[index] for index in order), found)

    def _near(self, query: Example, salt: np.uint64, annotated: NDArray[np.intp]) -> Iterator[int | np.intp]:
        """The positions in a query's part of the annotated candidates that may be drawn, the nearest first."""
        part = self._part(query)
        some = np.flatnonzero(np.isin(part.indices, annotated))
        order = by_score(self._scores.of(query)[part.indices[some]], part.folded[some], salt, len(some))
        return self._eligible(query, part, (some[index] for index in order))

    def _votes(self, seed: int) -> NDArray[np.intp]:
        """The indices of the candidates that are annotated if all are selected by votes."""
        if seed not in self._by_votes:
            self._by_votes[seed] = self.annotation(seed).by_votes
        return self._by_votes[seed]

    def _for_all(self, part: Part, salt: np.uint64) -> Iterator[np.intp]:
        """Positions of the candidates that are selected for all queries; each is determined once, when it is needed."""
        if (part, int(salt)) not in self._selected:
            sample = np.argsort(finished(unfinished(part.folded, salt)), kind="stable")[: self._sample]
            select = fast_vote_k if self.protocol.select == "fast-vote-k" else representatives
            order = select(self._scores.similarity.between(part.indices[sample]))
            self._selected[part, int(salt)] = [], (sample[index] for index in order)
        known, others = self._selected[part, int(salt)]
        for index in count():
            if index == len(known):
                known.extend(islice(others, 1))
            if index == len(known):
                return
            yield known[index]

    @property
    def _compares(self) -> bool:
        """Whether the selection compares texts."""
        return self.protocol.selection in (*BY_SIMILARITY, *FOR_ALL)

    @cached_property
    def _scores(self) -> QueryScores:
        """The similarity of queries and candidates; computed when it is first needed."""
        texts = [self._text_of(self._compared(self._group(index))) for index in range(self.size)]
        if self._encode is not None:
            similarity = encoded(texts, self._encode)
        else:
            similarity = bm25(texts) if self.protocol.select == "bm25" else tfidf(texts)
        return QueryScores(similarity, self._text_of, self._queries)

    def _compared(self, members: Sequence[Example]) -> Example:
        """The example of a group whose text is compared, and which is shown if the group is drawn."""
        return members[_lowest(members, hash_of(self.task))]

    def _balanced(self, query: Example, part: Part, ranks: NDArray[np.uint64]) -> Iterator[int | np.intp]:
        """Positions for a balanced draw: in every round, the lowest remaining rank of each label, in order of rank.

        Raises:
            DataError: there are not enough candidates with one of the labels.
        """
        of_label = {
            label: (
                (ranks[position], position)
                for position in self._eligible(query, part, positions[np.argsort(ranks[positions])])
            )
            for label, positions in self._positions_by_label(part).items()
        }
        for number in count(1):
            chosen = []
            for label, candidates in of_label.items():
                found = next(candidates, None)
                if found is None:
                    needed, there = counted(number, "demonstration"), "is" if number == 2 else "are"
                    raise DataError(
                        f"{self.task}: a balanced draw needs {needed} with the label {label!r} for the query "
                        f"{query.id!r}, and there {there} {number - 1}"
                    )
                chosen.append(found)
            yield from (position for _, position in sorted(chosen, key=itemgetter(0)))

    def _positions_by_label(self, part: Part) -> dict[str, NDArray[np.intp]]:
        """The positions in a part of the candidates with each label.

        If all candidates have the same options, an option that is never right is a label without candidates.

        Raises:
            DataError: there are groups of several examples, which have no single label.
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

    def _take(self, shots: int, query: Example, part: Part, found: Iterable[int | np.intp]) -> list[list[Example]]:
        """The groups at the first `shots` positions in a part.

        Raises:
            DataError: there are fewer positions.
        """
        taken = [self._members(part, position) for position in islice(found, shots)]
        if len(taken) == shots:
            return taken
        within = f" with the same {self.protocol.within}" if self.protocol.within else ""
        raise DataError(
            f"{self.task}: {counted(shots, 'demonstration was', 'demonstrations were')} requested, "
            f"but there {'is' if len(taken) == 1 else 'are'} {len(taken)} for the query {query.id!r}{within}"
        )

    def _members(self, part: Part, position: int | np.intp) -> list[Example]:
        return self._group(part.indices[position])

    def _question_keys(self, members: Sequence[Example]) -> frozenset[str]:
        """The question keys of a group's examples."""
        first = members[0].id
        if first not in self._questions:
            self._questions[first] = frozenset(map(self._question_key, members))
        return self._questions[first]

    def _part(self, query: Example) -> Part:
        return self._parts.get(value_of(query, self.protocol.within), EMPTY)


def _is_related(candidate: Example, query: Example) -> bool:
    """Whether a candidate belongs to the group or cluster of the query, such as questions about one passage."""
    return candidate.group == query.group or candidate.cluster == query.cluster


def _lowest(members: Sequence[Example], salt: np.uint64) -> int:
    """The index of the example of a group that is shown: the one with the lowest rank."""
    return int(np.argmin(ranks(hashes(member.id for member in members), salt))) if len(members) > 1 else 0
