"""Who does what: units of planned work to the processes of a run, the same on each of them.

Units on kept stems form a chain in which neighbours share what they begin with. It is laid out in one line and cut into
as many pieces as there are ranks, where little is shared; what stands on its own then fills up who has least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

SLACK = 1 / 16  # of a fair share: how far from the even place a chain may be cut where it shares less


@dataclass(frozen=True, slots=True)
class Unit:
    """Work that is done at once, by one rank.

    Attributes:
        cost: tokens.
        shared: tokens that the unit of the chain before has kept for it; None if it is not part of the chain.
    """

    cost: int
    shared: int | None = None


def deal(units: Sequence[Unit], ranks: int) -> list[list[int]]:
    """The places of every rank's units, in order.

    No rank gets more than its fair share of the tokens, an eighth of it and the largest unit on top. A part of the
    chain that shares a prefix is cut only if it is larger than an eighth of a fair share.
    """
    chain = [place for place, unit in enumerate(units) if unit.shared is not None]
    shares = _cut(chain, units, ranks)
    loads = [sum(units[place].cost for place in share) for share in shares]
    alone = (place for place, unit in enumerate(units) if unit.shared is None)
    for place in sorted(alone, key=lambda place: -units[place].cost):
        rank = loads.index(min(loads))
        shares[rank].append(place)
        loads[rank] += units[place].cost
    return [sorted(share) for share in shares]


def chunks(costs: Sequence[int], least: int, most: int) -> list[range]:
    """Neighbours together: every chunk but the last costs at least `least`, and there are no more than `most`."""
    size = max(least, -(-sum(costs) // most))
    found, start, cost = [], 0, 0
    for place, each in enumerate(costs, start=1):
        cost += each
        if cost >= size or place == len(costs):
            found.append(range(start, place))
            start, cost = place, 0
    return found


def _cut(chain: Sequence[int], units: Sequence[Unit], ranks: int) -> list[list[int]]:
    done = [0, *accumulate(units[place].cost for place in chain)]  # before each cut, by its place in the chain
    fair = done[-1] / ranks
    cuts = [0]
    for rank in range(1, ranks):
        even = fair * rank
        near = [cut for cut, cost in enumerate(done) if abs(cost - even) <= SLACK * fair]
        nearest = min(range(len(done)), key=lambda cut: abs(done[cut] - even))
        cuts.append(min(near or [nearest], key=lambda cut: (_lost(chain, units, cut), abs(done[cut] - even))))
    return [list(chain[start:stop]) for start, stop in zip(cuts, [*cuts[1:], len(chain)], strict=True)]


def _lost(chain: Sequence[int], units: Sequence[Unit], cut: int) -> int:
    """Tokens that are computed again if the chain is cut before a unit."""
    return (units[chain[cut]].shared or 0) if cut < len(chain) else 0
