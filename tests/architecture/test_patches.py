"""Tests patch the world outside the package, not its constants and private names: what a test must change is public."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import pytest

PACKAGE = "icl_eval"
TESTS = Path(__file__).parent.parent
MAY_PATCH = re.compile(
    r"setattr|patch|\.[A-Z][A-Z_]+ *[^ =]{0,2}= |\._[a-z]\w* *[^ =]{0,2}= "
)  # other files are not parsed, which takes long
KEPT = {
    "icl_eval.analysis.scaling.RESAMPLES": "hundreds of fits for each score take seconds",
    "icl_eval.runs.collect.WINDOW_TOKENS": "runs of several windows of a million tokens take seconds",
    "icl_eval.analysis.stopping.BLOCK": "hundreds of examples would be answered where tens show the same",
    "icl_eval.runs.tasks.SAMPLE_PATH": "the bundled data have no task of a few examples with known answers",
}
"""Constants that tests do patch, and why: no public option changes them, and their real sizes take too long."""
KEPT_PRIVATE = {
    "_attn_implementation": "the setting of `transformers` that `from_pretrained` writes, and that has no other name",
}
"""Private names that tests do patch, and why."""


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


def private(source: str) -> Iterator[str]:
    """The names with an underscore that a test module replaces, of modules and objects of the package."""
    if not MAY_PATCH.search(source):
        return
    nodes = list(ast.walk(ast.parse(source)))
    modules = dict(_imported(nodes))
    others = {"self", "cls", *_imported_from_others(nodes)}
    for node in nodes:
        if isinstance(node, ast.Call) and _name(node.func) in ("setattr", "patch", "object"):
            yield from _private(_target(node, modules), set() if len(node.args) < 2 else others & _roots(node.args[0]))
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield from _private(_dotted(node, modules), others & _roots(node.value))


def _constants(name: str) -> Iterator[str]:
    if name.startswith(f"{PACKAGE}.") and name.rpartition(".")[2].strip("_").isupper():
        yield name


def _private(name: str, others: Set[str]) -> Iterator[str]:
    """A full name, or the last part of one that begins with a variable, if that part is private."""
    of_package = name.startswith(f"{PACKAGE}.")
    last = name.rpartition(".")[2]
    if last.startswith("_") and not last.startswith("__") and (of_package or (name.startswith(".") and not others)):
        yield name if of_package else last


def _roots(node: ast.expr) -> set[str]:
    """The variable with which `variable.attribute` begins."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _imported_from_others(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names of what a module imports from outside the package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [each.name.split(".")[0] for each in node.names if not each.asname]
            yield from (name for name in names if name != PACKAGE)
            yield from (each.asname for each in node.names if each.asname and each.name.split(".")[0] != PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] != PACKAGE:
            yield from (each.asname or each.name for each in node.names)


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


def test_tests_patch_no_private_names() -> None:
    found = {
        (path.relative_to(TESTS).as_posix(), name)
        for path in TESTS.rglob("*.py")
        for name in private(path.read_text(encoding="utf-8"))
    }

    assert [each for each in sorted(found) if each[1] not in KEPT_PRIVATE] == []
    assert {name for _, name in found} == set(KEPT_PRIVATE)


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ('monkeypatch.setattr("icl_eval.engine.shared._wait", 0)', "icl_eval.engine.shared._wait"),
        ('from icl_eval.engine import shared as s\npatch.setattr(s, "_wait", 0)', "icl_eval.engine.shared._wait"),
        ("from icl_eval.engine import shared\nshared._wait = 0", "icl_eval.engine.shared._wait"),
        ('monkeypatch.setattr(lm.generation, "_decoders", 0)', "_decoders"),
        ("lm.generation._decoders = make", "_decoders"),
        ("journal._size += 1", "_size"),
        ("one, journal._size = 1, 2", "_size"),
    ],
)
def test_a_patched_private_name_is_found_in_every_form(planted: str, name: str) -> None:
    assert list(private(planted)) == [name]


@pytest.mark.parametrize(
    "planted",
    [
        'monkeypatch.setattr("icl_eval.runs.model.load", load)',
        'monkeypatch.setattr("huggingface_hub.constants._cache", "")',
        'import torch\nmonkeypatch.setattr(torch.ops.aten, "_flash", 0)',
        "class Fake:\n    def __init__(self) -> None:\n        self._size = 0",
        "second.__class__ = Clamped",
        "_size = 0",
    ],
)
def test_what_is_not_private_is_not_found(planted: str) -> None:
    assert list(private(planted)) == []


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
