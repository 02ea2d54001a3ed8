"""The protocol of a task: how demonstrations are chosen, and their labels and their order in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from icl_eval.config import Draw, Select
from icl_eval.tasks.data import Strict
from icl_eval.values import parse_labels, parse_order

BY_SIMILARITY: tuple[Select, ...] = ("bm25", "knn", "dpp", "mdl")
"""Selections of demonstrations for each query; the last one also depends on the model."""
FOR_ALL: tuple[Select, ...] = ("fast-vote-k", "diverse")
"""Selections of the same demonstrations for all queries."""
ENCODED: tuple[Select, ...] = ("knn", "dpp", "mdl", *FOR_ALL)
"""Selections that may compare the vectors of an encoder."""
DRAWS: dict[Select, tuple[Draw, ...]] = {
    "random": ("per_example", "per_group", "fixed", "first"),
    "balanced": ("per_example", "per_group", "fixed"),
    **dict.fromkeys(BY_SIMILARITY, ("per_example",)),
    **dict.fromkeys(FOR_ALL, ("fixed",)),
}
"""For how many queries each selection can be made."""


def usual_order(select: Any) -> str:
    """The order of demonstrations in the prompt if a protocol states none."""
    return "similar-last" if select in BY_SIMILARITY else "drawn"


class Protocol(Strict):
    """How demonstrations are chosen, and their order in the prompt."""

    NEW_KEYS = frozenset({"ids", "select", "encoder", "order", "labels"})

    shots: Annotated[StrictInt, Field(ge=0)] = 32
    """Number of demonstrations without `--shots`."""

    draw: Draw = "per_example"
    """A new draw for every query or every group, one draw for all queries, or the first examples of the split."""

    ids: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    """Ids of the demonstrations, in this order, instead of a draw."""

    select: Select = "random"
    """At random, equally many of each label, by similarity to the query, by the model (mdl), or as representatives."""

    encoder: StrictStr | None = None
    """Model of `transformers` by whose vectors demonstrations are selected, instead of TF-IDF."""

    order: Annotated[StrictStr, AfterValidator(parse_order)] = "drawn"
    """Order in the prompt: as drawn, reversed, balanced (alternating labels), or similar-last (bm25, knn, dpp, mdl)."""

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
        return {"order": usual_order(given.get("select")), **given}

    @model_validator(mode="after")
    def _random_or_in_order(self) -> Protocol:
        if self.ids and self.draw != "first":
            raise ValueError(f"`ids` fixes the demonstrations, but `draw` is {self.draw}; leave out one of them")
        if self.ids and len(set(self.ids)) < len(self.ids):
            twice = next(each for each in self.ids if self.ids.count(each) > 1)
            raise ValueError(f"`ids` lists {twice!r} twice")
        if self.draw not in DRAWS[self.select]:
            goes = " or ".join(DRAWS[self.select])
            raise ValueError(f"`select` {self.select} goes with `draw` {goes}, but `draw` is {self.draw}")
        if self.encoder and self.select not in ENCODED:
            raise ValueError(f"`encoder` goes with `select` {', '.join(ENCODED)}, but `select` is {self.select}")
        if self.order == "similar-last" and self.select not in BY_SIMILARITY:
            these = ", ".join(BY_SIMILARITY)
            raise ValueError(f"`order` similar-last goes with `select` {these}, but `select` is {self.select}")
        return self

    def changed(self, changes: Mapping[str, Any]) -> Protocol:
        """The protocol with other values of some keys, without those that contradict them.

        Raises:
            ValueError: the changes contradict each other, or what is kept.
        """
        own = {name: getattr(self, name) for name in Protocol.model_fields}
        dropped: set[str] = set()
        if changes.get("ids"):
            own["shots"] = len(changes["ids"])
            dropped |= {"draw", "select", "encoder"}
        if "draw" in changes:
            dropped |= {"ids"} if changes["draw"] in DRAWS[self.select] else {"ids", "select", "encoder"}
        if "select" in changes:
            dropped |= {"ids", "encoder"} if self.draw in DRAWS[changes["select"]] else {"ids", "encoder", "draw"}
        if self.order == usual_order(self.select):
            dropped.add("order")
        kept = {name: value for name, value in own.items() if name not in dropped}
        return Protocol.model_validate({**kept, **changes})

    def draw_words(self, encoder: str = "") -> str:
        """The signature's words for the draw, where `encoder` identifies the encoder, if there is one."""
        words = [
            self.draw if self.select in ("random", "balanced") else "",
            "" if self.select == "random" else self.select,
            encoder,
            "" if self.order == "drawn" else f"order:{self.order}" if self.order == "balanced" else self.order,
            "" if self.labels == "gold" else f"labels:{self.labels}",
        ]
        return "-".join(filter(None, words))
