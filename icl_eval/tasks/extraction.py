"""Rules that extract the answer from a generated text: the key `extract` of a task file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, field_validator, model_validator

from icl_eval.errors import MetricError, UnknownName

TIMEOUT = 2.0  # seconds for matching one text
MAX_STEPS = 10**6  # of a compiled pattern; required repetitions are compiled separately
NUMBER = regex.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
LETTER = regex.compile(r"(?:^|(?<=[\s(*]))([A-Z])(?=[).:,*]|\s*$)")


def compiled(pattern: str) -> regex.Pattern[str]:
    """Compile a regular expression.

    Raises:
        ValueError: the pattern is not valid, or compiling it would take much time or memory.
    """
    repeats = math.prod(int(each) or 1 for each in regex.findall(r"\{([0-9]{1,9})", pattern))
    if len(pattern) * repeats > MAX_STEPS:
        raise ValueError(f"the length of a regular expression times its repetitions is at most {MAX_STEPS}")
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
        """The result of the rule, or None if it finds nothing.

        Raises:
            MetricError: the pattern takes too long.
        """
        (step,) = self.model_fields_set - {"take"}
        return STEPS[step](text, self)


def _as_rule(value: object) -> object:
    """The mapping for a rule that is written as its name."""
    if isinstance(value, str) and value not in WORDS:
        raise ValueError(UnknownName("rule without settings", value, WORDS).message)
    return {value: True} if isinstance(value, str) else value


Rules = Annotated[list[Annotated[Rule, BeforeValidator(_as_rule)]], Field(min_length=1)]

RulesByName = dict[Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_-]*$")], Rules]  # in order


def extract(text: str, rules: Sequence[Rule]) -> str | None:
    """Apply rules to a text one after the other; returns the answer, or None if a rule finds nothing.

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
        matches = list(regex.finditer(rule.pattern or "", text, timeout=TIMEOUT))
    except TimeoutError as error:
        raise MetricError(
            f"the pattern {rule.pattern!r} takes more than {TIMEOUT:g} s for a text of {len(text)} characters"
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
    """The content of the last box in a LaTeX text, such as `\\boxed{5}` or `\\boxed 5`; None if there is none."""
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
    """Rules as they are written in a task file."""
    return {name: [rule.model_dump(exclude_unset=True) for rule in rules] for name, rules in extract.items()}
