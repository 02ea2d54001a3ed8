"""What the released items of the GPT-3 paper look like, and how they are taken apart."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import chisquare

Pairs = list[tuple[str, str]]  # problem, answer
SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def arithmetic(records: Iterable[Mapping[str, Any]]) -> Pairs:
    """Problems and answers, of records that read exactly as the released items do."""
    pairs = []
    for record in records:
        question = re.fullmatch(r"\n\nQ: What is (.*)\?\n\nA:", record["context"])
        answered = re.fullmatch(r" (-?\d+)", record["completion"])
        assert question
        assert answered
        assert set(record) == {"context", "completion"}
        pairs.append((question[1], answered[1]))
    return pairs


def scrambles(records: Iterable[Mapping[str, Any]]) -> Pairs:
    pairs = []
    for record in records:
        question = re.fullmatch(r"\n(.*) =", record["context"])
        answered = re.fullmatch(r" ([a-z]+)", record["completion"])
        assert question
        assert answered
        assert set(record) == {"context", "completion"}
        pairs.append((question[1], answered[1]))
    return pairs


def p_value(counts: Counter[Any], cells: int) -> float:
    return float(chisquare([*counts.values(), *[0] * (cells - len(counts))]).pvalue)


def worth(problem: str) -> int:
    """What Python says a problem is, with words for signs."""
    for word, sign in (("plus", "+"), ("minus", "-"), ("times", "*")):
        problem = problem.replace(word, sign)

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int)
            return node.value
        assert isinstance(node, ast.BinOp)
        return int(SIGNS[type(node.op)](value(node.left), value(node.right)))

    return value(ast.parse(problem, mode="eval").body)
