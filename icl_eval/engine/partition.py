"""Partition planned work among the processes of a run, the same way in each of them.

Items that follow a cached prefix form a prefix chain, in which neighbours share their first tokens. The chain is laid
out in one line and cut into as many pieces as there are ranks, where little is shared. All other items then go to the
rank with the least work.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from icl_eval.models import WorkItem

SLACK = 1 / 16  # of a fair share: how far from an even cut the chain may be cut where less is shared


def partition(items: Sequence[WorkItem], ranks: int) -> list[list[int]]:
    """The indices of every rank's items, in order.

    No rank gets more tokens than its fair share, plus an eighth of it, plus the largest item. A part of the chain that
    shares a prefix is cut only if it is larger than an eighth of a fair share.
    """
    chain = [index for index, item in enumerate(items) if item.shared is not None]
    shares = _cut(chain, items, ranks)
    loads = [sum(items[index].cost for index in share) for share in shares]
    unchained = (index for index, item in enumerate(items) if item.shared is None)
    for index in sorted(unchained, key=lambda index: -items[index].cost):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += items[index].cost
    return [sorted(share) for share in shares]


def _cut(chain: Sequence[int], items: Sequence[WorkItem], ranks: int) -> list[list[int]]:
    done = [0, *accumulate(items[index].cost for index in chain)]  # cost before each possible cut
    fair = done[-1] / ranks
    cuts = [0]
    for rank in range(1, ranks):
        even = fair * rank
        near = [cut for cut, cost in enumerate(done) if abs(cost - even) <= SLACK * fair]
        nearest = min(range(len(done)), key=lambda cut: abs(done[cut] - even))
        cuts.append(min(near or [nearest], key=lambda cut: (_recomputed(chain, items, cut), abs(done[cut] - even))))
    return [list(chain[start:stop]) for start, stop in zip(cuts, [*cuts[1:], len(chain)], strict=True)]


def _recomputed(chain: Sequence[int], items: Sequence[WorkItem], cut: int) -> int:
    """Tokens that are recomputed if the chain is cut before an item."""
    return (items[chain[cut]].shared or 0) if cut < len(chain) else 0
