"""What answering requests will take, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from icl_eval.engine.plan import Batch
from icl_eval.models import ScoreRequest

FLOAT = 4  # bytes of a logit


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of requests, tokens and batches, and the memory of the largest batch.

    Attributes:
        requests: all of them.
        known: those whose answer stands in the journal.
        repeated: those that ask what another one asks.
        asked: tokens that a model reads which answers the rest one by one, the repeated ones too.
        computed: tokens that it reads by the plan: batches with their padding, and what each stem adds to the last.
        batches: calls of the model, stems not counted.
        longest: tokens of the largest batch.
        targets: scored places of the batch that has most.
        stem: tokens of the longest stem.
    """

    requests: int = 0
    known: int = 0
    repeated: int = 0
    asked: int = 0
    computed: int = 0
    batches: int = 0
    longest: int = 0
    targets: int = 0
    stem: int = 0

    @classmethod
    def of(cls, requests: int, asked: Sequence[ScoreRequest], missing: int, batches: Sequence[Batch]) -> Workload:
        """The workload of so many requests, of which those `asked` are not answered yet, and so many are distinct."""
        return cls(
            requests=requests,
            known=requests - len(asked),
            repeated=len(asked) - missing,
            asked=sum(request.input_length for request in asked),
            computed=sum(batch.computed for batch in batches),
            batches=len(batches),
            longest=max((batch.tokens for batch in batches), default=0),
            targets=max((batch.targets for batch in batches), default=0),
            stem=max((batch.rows[0].row.stem for batch in batches), default=0),
        )

    def __add__(self, other: Workload) -> Workload:
        largest = ("longest", "targets", "stem")
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        return Workload(**{name: max(pair) if name in largest else sum(pair) for name, pair in pairs.items()})

    @property
    def sharing(self) -> float:
        """Tokens asked for every token computed."""
        return self.asked / self.computed if self.computed else 1.0

    def memory(self, token_bytes: int, state_bytes: int, vocabulary: int) -> dict[str, int]:
        """Bytes that the largest batch is expected to take, besides the weights."""
        return {
            "activations": self.longest * token_bytes,
            "logits": self.targets * vocabulary * FLOAT,
            "kept states": self.stem * state_bytes,
        }
