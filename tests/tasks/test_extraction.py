from __future__ import annotations

from typing import Any

import pytest
from patience import impatient
from pydantic import TypeAdapter

from icl_eval.errors import MetricError
from icl_eval.tasks.extraction import Rules, extract

PARSED: TypeAdapter[Any] = TypeAdapter(Rules)


def found(text: str, *rules: Any) -> str | None:
    return extract(text, PARSED.validate_python(list(rules)))


@pytest.mark.parametrize(
    ("text", "rules", "answer"),
    [
        ("so #### 1,234", [{"pattern": r"#### (-?[0-9.,]+)"}], "1,234"),
        ("so 1234", [{"pattern": r"#### (-?[0-9.,]+)"}], None),
        ("1 then 2 then 3", [{"pattern": r"\d"}], "1"),
        ("1 then 2 then 3", [{"pattern": r"\d", "take": "last"}], "3"),
        ("b", [{"pattern": "(a)|(b)"}], "b"),
        ("the answer is (B).", [{"after": "answer is "}, {"before": "."}], "(B)"),
        ("answer is 1, no, answer is 2", [{"after": "answer is "}], "2"),
        ("no mark", [{"after": "answer is "}], None),
        ("no mark", [{"before": "."}], "no mark"),
        ("$1,200.50", [{"remove": [",", "$"]}], "1200.50"),
        ("She pays $1,200.50 for 3 of them.", ["last_number"], "3"),
        ("He owes -$1,200.", ["last_number"], "-1200"),
        ("It is .5", ["last_number"], ".5"),
        ("many", ["last_number"], None),
        (r"\boxed{1} and \boxed{\frac{1}{2}} end", ["boxed"], r"\frac{1}{2}"),
        (r"\fbox{x}", ["boxed"], "x"),
        (r"\boxed{1}, so $\boxed 5$ it is", ["boxed"], "5"),
        (r"\boxed{never closed", ["boxed"], None),
        ("nothing", ["boxed"], None),
        ("(C) the cat", ["letter"], "C"),
        ("The answer is B.", ["letter"], "B"),
        ("**D**", ["letter"], "D"),
        ("A dog and a cat: E", ["letter"], "E"),
        ("nothing here", ["letter"], None),
        ("  Yes ", ["strip", "lower"], "yes"),
        ("thinking</think> 7", [{"after": "</think>"}, "last_number"], "7"),
        ("thinking about 5", [{"after": "</think>"}, "last_number"], None),
    ],
)
def test_rules_take_the_answer_out_of_a_text(text: str, rules: list[Any], answer: str | None) -> None:
    assert found(text, *rules) == answer


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"pattern": "("}, "this is not a regular expression"),
        ({"pattern": "(" * 5000 + "a" + ")" * 5000}, "this regular expression is nested too deeply"),
        ({"pattern": "((a{1000}){1000}){1000}"}, "times its repetitions is at most 1000000"),
        ({"pattern": "a", "after": "b"}, "a rule has one of the keys .*, but this one has 2"),
        ({}, "but this one has 0"),
        ({"after": "a", "take": "last"}, "`take` belongs to a `pattern`"),
        ({"after": ""}, "at least 1 character"),
        ({"patern": "a"}, "Extra inputs are not permitted"),
        ("lastnumber", "no rule without settings is named 'lastnumber'; did you mean last_number"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PARSED.validate_python([rule])


def test_a_pattern_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, "finditer")

    with pytest.raises(MetricError, match=r"takes more than 2 s for a text of 5001 characters"):
        found("a" * 5000 + "b", {"pattern": r"(a|a|aa)+$"})
