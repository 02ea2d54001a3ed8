"""Rules that extract the answer from a generated text: the key `extract` of a task file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, field_validator, model_validator

from icl_eval.errors import MetricError, UnknownName

SECONDS = 2.0  # that matching one text may take
MOST_STEPS = 10**6  # of a compiled pattern, in which every repetition that must match has its own
NUMBER = regex.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
LETTER = regex.compile(r"(?:^|(?<=[\s(*]))([A-Z])(?=[).:,*]|\s*$)")


def compiled(pattern: str) -> regex.Pattern[str]:
    """The compiled regular expression.

    Raises:
        ValueError: it is none, or one that would take long or much memory to compile.
    """
    repeats = math.prod(int(each) or 1 for each in regex.findall(r"\{([0-9]{1,9})", pattern))
    if len(pattern) * repeats > MOST_STEPS:
        raise ValueError(f"the length of a regular expression times its repetitions is at most {MOST_STEPS}")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"this is not a regular expression: {error}") from error
    except RecursionError as error:
        raise ValueError("this regular expression is nested too deeply") from error


NonEmpty = Annotated[StrictStr, Field(min_length=1)]


class Rule(BaseModel):
    """A rule turns a text into a shorter one. It has exactly one of these keys, and `pattern` may have `take`.

    A rule without settings can be written as its name: `last_number`. If a rule finds nothing, the text has no answer.
    `before`, `remove`, `strip` and `lower` always give a text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: StrictStr | None = None
    """Regular expression: the first group of its match, or the whole match."""

    take: Literal["first", "last"] | None = None
    """Which match of the pattern; by default, the first."""

    after: NonEmpty | None = None
    """What follows the last occurrence of this text, such as `</think>`."""

    before: NonEmpty | None = None
    """What precedes the first occurrence of this text; the whole text if there is none."""

    remove: Annotated[tuple[NonEmpty, ...], Field(min_length=1)] | None = None
    """The text without these texts."""

    last_number: Literal[True] | None = None
    """The last number, without commas and dollar signs."""

    boxed: Literal[True] | None = None
    r"""Content of the last `\boxed{}` or `\fbox{}`, or what follows `\boxed ` up to a dollar sign."""

    letter: Literal[True] | None = None
    """The first capital letter that stands alone, as in `(B)` or `B.`"""

    strip: Literal[True] | None = None
    """The text without white space at both ends."""

    lower: Literal[True] | None = None
    """The text in lower case."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _is_one_step(self) -> Rule:
        steps = self.model_fields_set - {"take"}
        if len(steps) != 1:
            raise ValueError(f"a rule has one of the keys {', '.join(STEPS)}, but this one has {len(steps)}")
        if self.take is not None and self.pattern is None:
            raise ValueError("`take` belongs to a `pattern`")
        return self

    def apply(self, text: str) -> str | None:
        """The text after this step, or None if it finds nothing.

        Raises:
            MetricError: the pattern takes too long.
        """
        (step,) = self.model_fields_set - {"take"}
        return STEPS[step](text, self)


def _as_rule(value: object) -> object:
    """A rule without settings may be written as its name."""
    if isinstance(value, str) and value not in WORDS:
        raise ValueError(UnknownName("rule without settings", value, WORDS).message)
    return {value: True} if isinstance(value, str) else value


Rules = Annotated[list[Annotated[Rule, BeforeValidator(_as_rule)]], Field(min_length=1)]

RulesByName = dict[Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_-]*$")], Rules]  # in order


def extract(text: str, rules: Sequence[Rule]) -> str | None:
    """The answer in a text by rules, each applied to what the one before gave; None if one of them finds nothing.

    Raises:
        MetricError: a pattern takes too long.
    """
    found: str | None = text
    for rule in rules:
        if found is None:
            return None
        found = rule.apply(found)
    return found


def _match(text: str, rule: Rule) -> str | None:
    try:
        matches = list(regex.finditer(rule.pattern or "", text, timeout=SECONDS))
    except TimeoutError as error:
        raise MetricError(
            f"the pattern {rule.pattern!r} takes more than {SECONDS:g} s for a text of {len(text)} characters"
        ) from error
    if not matches:
        return None
    match = matches[-1 if rule.take == "last" else 0]
    return next((group for group in match.groups() if group is not None), match[0])


def _after(text: str, rule: Rule) -> str | None:
    _, mark, rest = text.rpartition(rule.after or "")
    return rest if mark else None


def _without(text: str, rule: Rule) -> str:
    for each in rule.remove or ():
        text = text.replace(each, "")
    return text


def _last_number(text: str, _: Rule) -> str | None:
    found = NUMBER.findall(text)
    return found[-1].replace(",", "").replace("$", "") if found else None


def boxed(text: str) -> str | None:
    """The contents of the last box, which may hold pairs of braces; `\\boxed 5` needs no braces."""
    start = max(text.rfind(command) for command in ("\\boxed{", "\\fbox{"))
    bare = text.rfind("\\boxed ")
    if bare > start:
        return text[bare + len("\\boxed ") :].partition("$")[0].strip()
    if start < 0:
        return None
    begin, depth = text.index("{", start) + 1, 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return None


def _letter(text: str, _: Rule) -> str | None:
    found = LETTER.search(text)
    return None if found is None else str(found[1])


STEPS: Mapping[str, Callable[[str, Rule], str | None]] = {
    "pattern": _match,
    "after": _after,
    "before": lambda text, rule: text.partition(rule.before or "")[0],
    "remove": _without,
    "last_number": _last_number,
    "boxed": lambda text, _: boxed(text),
    "letter": _letter,
    "strip": lambda text, _: text.strip(),
    "lower": lambda text, _: text.lower(),
}
WORDS = ("last_number", "boxed", "letter", "strip", "lower")


def dumped(extract: Mapping[str, Sequence[Rule]]) -> dict[str, Any]:
    """Rules as a task file would have them."""
    return {name: [rule.model_dump(exclude_unset=True) for rule in rules] for name, rules in extract.items()}
