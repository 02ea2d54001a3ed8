"""The protocol of a task: how demonstrations are chosen, and their labels and their order in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from icl_eval.config import Draw
from icl_eval.tasks.data import Strict
from icl_eval.values import VOTE_K, annotation_of, parse_labels, parse_order, parse_select, selection_name

BY_MODEL = ("mdl", VOTE_K)
"""Selections that depend on similarity and on the model."""
BY_SIMILARITY = ("bm25", "knn", "dpp", *BY_MODEL)
"""Selections of other demonstrations for each query."""
FOR_ALL = ("fast-vote-k", "diverse")
"""Selections of the same demonstrations for all queries."""
ENCODED = ("knn", "dpp", *BY_MODEL, *FOR_ALL)
"""Selections that can use the vectors of an encoder."""
DRAWS: dict[str, tuple[Draw, ...]] = {
    "random": ("per_example", "per_group", "fixed", "first"),
    "balanced": ("per_example", "per_group", "fixed"),
    **dict.fromkeys(BY_SIMILARITY, ("per_example",)),
    **dict.fromkeys(FOR_ALL, ("fixed",)),
}
"""The values of `draw` that each selection allows."""


def default_order(select: Any) -> str:
    """The default order of demonstrations for a selection."""
    return "similar-last" if selection_name(str(select)) in BY_SIMILARITY else "drawn"


class Protocol(Strict):
    """How demonstrations are chosen, and their order in the prompt."""

    NEW_KEYS = frozenset({"ids", "select", "encoder", "order", "labels"})

    shots: Annotated[StrictInt, Field(ge=0)] = 32
    """Number of demonstrations without `--shots`."""

    draw: Draw = "per_example"
    """A new draw for every query or every group, one draw for all queries, or the first examples of the split."""

    ids: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    """Ids of the demonstrations, in this order, instead of a draw."""

    select: Annotated[StrictStr, AfterValidator(parse_select)] = "random"
    """How demonstrations are selected: random, balanced, bm25, knn, dpp, mdl, vote-k:MofN, fast-vote-k or diverse."""

    encoder: StrictStr | None = None
    """Model of `transformers` whose vectors measure similarity, instead of TF-IDF."""

    order: Annotated[StrictStr, AfterValidator(parse_order)] = "drawn"
    """Order in the prompt: as drawn, reversed, balanced (alternating labels), or similar-last (by similarity)."""

    labels: Annotated[StrictStr, AfterValidator(parse_labels)] = "gold"
    """Labels of the demonstrations: the right ones, or others as with `--labels`."""

    within: StrictStr | None = None
    """Field whose value demonstrations share with the query."""

    repeat: StrictBool = False
    """Whether a demonstration may have the same question as the query."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_a_selection(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("ids"):
            return {"draw": "first", **given}
        if given.get("select") in FOR_ALL:
            return {"draw": "fixed", **given}
        return {"order": default_order(given.get("select")), **given}

    @model_validator(mode="after")
    def _random_or_in_order(self) -> Protocol:
        if self.ids and self.draw != "first":
            raise ValueError(f"`ids` fixes the demonstrations, but `draw` is {self.draw}; leave out one of them")
        if self.ids and len(set(self.ids)) < len(self.ids):
            twice = next(each for each in self.ids if self.ids.count(each) > 1)
            raise ValueError(f"`ids` lists {twice!r} twice")
        if self.draw not in DRAWS[self.selection]:
            goes = " or ".join(DRAWS[self.selection])
            raise ValueError(f"`select` {self.select} goes with `draw` {goes}, but `draw` is {self.draw}")
        if self.encoder and self.selection not in ENCODED:
            raise ValueError(f"`encoder` goes with `select` {', '.join(ENCODED)}, but `select` is {self.select}")
        if self.order == "similar-last" and self.selection not in BY_SIMILARITY:
            these = ", ".join(BY_SIMILARITY)
            raise ValueError(f"`order` similar-last goes with `select` {these}, but `select` is {self.select}")
        return self

    @property
    def selection(self) -> str:
        """The name of the selection without its numbers."""
        return selection_name(self.select)

    @property
    def annotation(self) -> tuple[int, int]:
        """The numbers of candidates that `vote-k` annotates and chooses from; zeros for other selections."""
        return annotation_of(self.select) or (0, 0)

    def changed(self, changes: Mapping[str, Any]) -> Protocol:
        """The protocol with changed values; keys that contradict them get their defaults.

        Raises:
            ValueError: the changes contradict each other or the remaining keys.
        """
        current = {name: getattr(self, name) for name in Protocol.model_fields}
        dropped: set[str] = set()
        if changes.get("ids"):
            current["shots"] = len(changes["ids"])
            dropped |= {"draw", "select", "encoder"}
        if "draw" in changes:
            dropped |= {"ids"} if changes["draw"] in DRAWS[self.selection] else {"ids", "select", "encoder"}
        if "select" in changes:
            draws = DRAWS[selection_name(changes["select"])]
            dropped |= {"ids", "encoder"} if self.draw in draws else {"ids", "encoder", "draw"}
        if self.order == default_order(self.select):
            dropped.add("order")
        kept = {name: value for name, value in current.items() if name not in dropped}
        return Protocol.model_validate({**kept, **changes})

    def draw_words(self, encoder: str = "") -> str:
        """The word of the signature for the draw; `encoder` identifies the encoder, if there is one."""
        words = [
            self.draw if self.select in ("random", "balanced") else "",
            "" if self.select == "random" else self.select,
            encoder,
            "" if self.order == "drawn" else f"order:{self.order}" if self.order == "balanced" else self.order,
            "" if self.labels == "gold" else f"labels:{self.labels}",
        ]
        return "-".join(filter(None, words))
