"""Tests patch the world outside the package, not its constants: a constant that a test must change is an argument."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = "icl_eval"
TESTS = Path(__file__).parent.parent
MAY_PATCH = re.compile(r"setattr|patch|\.[A-Z][A-Z_]+ *[^ =]{0,2}= ")  # other files are not parsed, which takes long
KEPT = {
    "icl_eval.analysis.scaling.RESAMPLES": "hundreds of fits for each score take seconds",
    "icl_eval.runs.collect.WINDOW_TOKENS": "runs of several windows of a million tokens take seconds",
    "icl_eval.runs.stopping.BLOCK": "hundreds of examples would be answered where tens show the same",
    "icl_eval.runs.tasks.SAMPLE_PATH": "the bundled data have no task of a few examples with known answers",
}
"""Constants that tests do patch, and why: no public option changes them, and their real sizes take too long."""


def patched(source: str) -> Iterator[str]:
    """The full names of the upper-case names of package modules that a test module replaces."""
    if not MAY_PATCH.search(source):
        return
    nodes = list(ast.walk(ast.parse(source)))
    modules = dict(_imported(nodes))
    for node in nodes:
        if isinstance(node, ast.Call) and _name(node.func) in ("setattr", "patch", "object"):
            yield from _constants(_target(node, modules))
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from _constants(_dotted(target, modules))


def _constants(name: str) -> Iterator[str]:
    if name.startswith(f"{PACKAGE}.") and name.rpartition(".")[2].strip("_").isupper():
        yield name


def _imported(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, str]]:
    """Names of a module, and what of the package they stand for."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield from ((each.asname or each.name, f"{node.module}.{each.name}") for each in node.names)
        elif isinstance(node, ast.Import):
            named = [each for each in node.names if each.name.split(".")[0] == PACKAGE]
            yield from ((each.asname, each.name) if each.asname else (PACKAGE, PACKAGE) for each in named)


def _target(call: ast.Call, modules: dict[str, str]) -> str:
    """What a call such as `setattr("module.NAME", value)` or `setattr(module, "NAME", value)` replaces."""
    texts = [each.value if isinstance(each, ast.Constant) else None for each in call.args[:2]]
    if texts and isinstance(texts[0], str):
        return texts[0]
    if len(texts) == 2 and isinstance(texts[1], str):
        return f"{_dotted(call.args[0], modules)}.{texts[1]}"
    return ""


def _dotted(node: ast.expr, modules: dict[str, str]) -> str:
    """The full name of `module.NAME`, or of `sys.modules["module"].NAME`; empty if it is no such name."""
    if isinstance(node, ast.Name):
        return modules.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, modules)}.{node.attr}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_tests_patch_no_constants_of_the_package() -> None:
    found = {
        (path.relative_to(TESTS).as_posix(), name)
        for path in TESTS.rglob("*.py")
        for name in patched(path.read_text(encoding="utf-8"))
    }

    assert [each for each in sorted(found) if each[1] not in KEPT] == []
    assert {name for _, name in found} == set(KEPT)  # an exception that no test needs is taken off the list


@pytest.mark.parametrize(
    "planted",
    [
        'monkeypatch.setattr("icl_eval.engine.shared.PAUSE", 0)',
        'from icl_eval.engine import shared as s\npatch.setattr(s, "PAUSE", 0)',
        'import icl_eval.engine.shared\nsetattr(icl_eval.engine.shared, "PAUSE", 0)',
        'import sys\nmonkeypatch.setattr(sys.modules["icl_eval.engine.shared"], "PAUSE", 0)',
        "from icl_eval.engine import shared\nshared.PAUSE = 0",
        "import icl_eval.engine.shared as there\nthere.PAUSE += 1",
        'from unittest import mock\nwith mock.patch("icl_eval.engine.shared.PAUSE", 0): pass',
    ],
)
def test_a_patched_constant_is_found_in_every_form(planted: str) -> None:
    assert list(patched(planted)) == ["icl_eval.engine.shared.PAUSE"]


@pytest.mark.parametrize(
    "planted",
    [
        'monkeypatch.setattr("icl_eval.runs.model.load", load)',
        'from huggingface_hub import constants\nmonkeypatch.setattr(constants, "HF_HUB_CACHE", "")',
        "PAUSE = 0",
    ],
)
def test_what_is_no_constant_of_the_package_is_not_found(planted: str) -> None:
    assert list(patched(planted)) == []
