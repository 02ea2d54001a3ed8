"""How values of options and of keys in task files are written, if they are more than a number or a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

ORDERS = ("drawn", "reversed", "balanced", "similar-last")
ONE_ORDER = (*ORDERS, "permutation:IofN")
SEVERAL_ORDERS = (*ORDERS, "permutations:N", "permutation:IofN")
LABELS = ("gold", "random", "flipped", "permuted", "abstract")
MOST_PERMUTATIONS = 1000
VOTE_K = "vote-k"
SELECTIONS = ("random", "balanced", "bm25", "knn", "dpp", "mdl", VOTE_K, "fast-vote-k", "diverse")
ANNOTATED, CANDIDATES = 100, 3000  # of `vote-k`, as in Su et al. 2022
MOST_CANDIDATES = 10_000  # of which every two are compared
OLMES = "olmes"  # a limit: the sample of that standard


def parse_formats(value: int | str) -> int | str:
    """A number of formats as the manifest stores it: N for the seed 0, or `N:SEED`.

    Raises:
        ValueError: it is neither.
    """
    number, _, seed = str(value).partition(":")
    if not re.fullmatch(r"[0-9]{1,4}(:[0-9]{1,9})?", str(value)) or int(number) < 2:
        raise ValueError(f"{value!r} is neither a number of formats, 2 to 9999, nor N:SEED")
    return f"{int(number)}:{int(seed)}" if int(seed or 0) else int(number)


def parse_limit(value: int | str) -> int | str:
    """A limit as the manifest stores it: the size of a sample as a number, `first:N` or `olmes`.

    Raises:
        ValueError: it is none of these.
    """
    if value != OLMES and not re.fullmatch(r"(first:)?[1-9][0-9]{0,17}", str(value)):
        raise ValueError(f"{value!r} is neither a number of examples, at least 1, nor first:N, nor {OLMES}")
    return int(value) if str(value).isdecimal() else value


def parse_order(value: str, *, choices: Sequence[str] = ONE_ORDER) -> str:
    """An order of demonstrations as a task file and the manifest state it.

    Args:
        value: the text.
        choices: the orders that the message names.

    Raises:
        ValueError: it is none.
    """
    permutation = permutation_of(value)
    if value not in ORDERS and (permutation is None or not permutation[0] < permutation[1] <= MOST_PERMUTATIONS):
        raise ValueError(f"{value!r} is not an order; choose from {', '.join(choices)}")
    return value


def permutation_of(order: str) -> tuple[int, int] | None:
    """The index of `permutation:IofN`, from 0, and N; None for another order."""
    found = re.fullmatch(r"permutation:([0-9]{1,9})of([0-9]{1,9})", order)
    return (int(found[1]), int(found[2])) if found else None


def expand_orders(values: Iterable[str]) -> list[str]:
    """Orders, each once, with `permutations:N` as the drawn order and N - 1 others.

    Raises:
        ValueError: one is not an order.
    """
    found: list[str] = []
    for value in values:
        several = re.fullmatch(r"permutations:([0-9]{1,9})", value)
        if several is None:
            found.append(parse_order(value, choices=SEVERAL_ORDERS))
            continue
        if not 2 <= (total := int(several[1])) <= MOST_PERMUTATIONS:
            raise ValueError(f"{value!r}: the number of permutations is from 2 to {MOST_PERMUTATIONS}")
        found += ["drawn", *(f"permutation:{index}of{total}" for index in range(1, total))]
    return list(dict.fromkeys(found))


def parse_select(value: str) -> str:
    """A selection of demonstrations as a task file and the manifest state it; `vote-k` with its numbers.

    Raises:
        ValueError: there is no such selection, or its numbers are out of range.
    """
    found = re.fullmatch(rf"{VOTE_K}(:([0-9]{{1,9}})(of([0-9]{{1,9}}))?)?", value)
    if found is None:
        if value not in SELECTIONS:
            raise ValueError(f"{value!r} is not a selection; choose from {', '.join(SELECTIONS)}, {VOTE_K}:MofN")
        return value
    annotated, candidates = int(found[2] or ANNOTATED), int(found[4] or CANDIDATES)
    if not 1 <= annotated <= candidates <= MOST_CANDIDATES:
        raise ValueError(
            f"{value!r}: {VOTE_K}:MofN annotates M of N candidates, M from 1 to N, and N at most {MOST_CANDIDATES:,}"
        )
    return f"{VOTE_K}:{annotated}of{candidates}"


def selection_name(select: str) -> str:
    """The name of a selection without its numbers."""
    return select.partition(":")[0]


def annotation_of(select: str) -> tuple[int, int] | None:
    """How many candidates `vote-k:MofN` annotates, M, and of at most how many, N; None for another selection."""
    found = re.fullmatch(rf"{VOTE_K}:([0-9]+)of([0-9]+)", select)
    return (int(found[1]), int(found[2])) if found else None


def parse_labels(value: str) -> str:
    """The rule by which demonstrations show labels, as a task file and the manifest state it.

    Raises:
        ValueError: it is none.
    """
    corrupt = re.fullmatch(r"corrupt:(0(\.[0-9]{1,9})?|1(\.0{1,9})?|\.[0-9]{1,9})", value)
    words = abstract_words(value)
    if words is not None and (
        len(set(words)) < len(words) or not all(re.fullmatch(r"[^|,~=\s]+", each) for each in words)
    ):
        raise ValueError(f"{value!r}: separate the words by /; they must differ and contain no space, comma, |, ~ or =")
    if value not in LABELS and not corrupt and words is None:
        these = ", ".join(LABELS)
        raise ValueError(
            f"{value!r} is not a rule for labels; choose from {these}, abstract:WORD/..., corrupt:P (0 to 1)"
        )
    return f"corrupt:{float(corrupt[1]):g}" if corrupt else value


def abstract_words(labels: str) -> tuple[str, ...] | None:
    """The words of `abstract:WORD/...`; None for another rule."""
    kind, separator, words = labels.partition(":")
    return tuple(words.split("/")) if kind == "abstract" and separator else None
