"""Imports point one way, and what needs no model needs no model library."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import icl_eval

PACKAGE = Path(icl_eval.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
DATA = frozenset({"errors", "prompts", "tasks"})
EXPERIMENT = frozenset({"demos", "engine", "metrics", "models", "references", "scoring"}) | DATA
ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "config": frozenset({"errors"}),
    "values": frozenset(),
    "prompts": frozenset({"config", "errors"}),
    "tasks": frozenset({"config", "errors", "prompts", "values"}),
    "demos": frozenset({"errors", "tasks", "values"}),
    "models": frozenset({"config", "errors"}),
    "engine": frozenset({"errors", "models"}),
    "ngrams": frozenset({"errors"}),
    "scoring": frozenset({"errors", "tasks"}),
    "metrics": frozenset({"errors", "tasks"}),
    "references": frozenset({"errors", "metrics", "tasks"}),
    "results": EXPERIMENT - {"demos", "prompts", "references"} | {"config", "values"},
    "analysis": frozenset({"config", "errors", "metrics", "references", "results", "scoring", "tasks"}),
    "runs": EXPERIMENT | {"analysis", "config", "ngrams", "results", "testing", "values"},
    "reports": frozenset({"errors", "metrics", "references", "results"}),
    "testing": EXPERIMENT,
    "importing": DATA,
    "tiny": frozenset(),
    "cli": EXPERIMENT | {"analysis", "config", "importing", "reports", "results", "runs", "testing", "tiny"},
    "__main__": frozenset({"cli"}),
}
PRINTED = {"results/result.py": frozenset({"reports"})}
"""What results print themselves by, within methods; reports take the parts of these results and never import them."""
LIGHT = (
    *("tasks", "demos", "ngrams", "prompts", "scoring", "metrics", "references"),
    *("analysis.compare", "analysis.rescore", "analysis.scaling"),
)
HEAVY = ("torch", "transformers", "accelerate", "datasets", "evaluate", "pyarrow", "scipy")


def part_of(path: Path) -> str:
    """The subpackage or module of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def import_statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a file, also those within functions and for types alone."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it, without `icl_eval.`."""
    names = set()
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names |= {node.module or ""} if node.module != "icl_eval" else {f"icl_eval.{a.name}" for a in node.names}
    return {name.removeprefix("icl_eval.") for name in names if name.startswith("icl_eval.")}


def name_of(path: Path) -> str:
    """The name of a module, that of a package without `__init__`."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


KNOWN = set(map(name_of, MODULES))


def needed(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, also within functions and for types alone."""
    found = [node for node in import_statements(path) if isinstance(node, ast.ImportFrom)]
    pairs = [(node.module or "", alias.name) for node in found for alias in node.names]
    return {f"{module}.{name}" if f"{module}.{name}" in KNOWN else module for module, name in pairs} & KNOWN


def order(graph: dict[str, set[str]]) -> list[str]:
    """The modules of an import graph, each after those that it imports; `CycleError` if they form a cycle."""
    return list(TopologicalSorter(graph).static_order())


def test_modules_have_no_import_cycle() -> None:
    graph = {name_of(path): needed(path) for path in MODULES}

    assert set(order(graph)) == set(map(name_of, MODULES))


def test_a_planted_import_cycle_is_found() -> None:
    graph = {name_of(path): needed(path) for path in MODULES}
    above, below = "icl_eval.runs.evaluate", "icl_eval.tasks.definition"
    graph[below] = {*graph[below], above}

    with pytest.raises(CycleError):
        order(graph)


def forbidden_imports(file: str, names: set[str]) -> set[str]:
    """Those of the imported modules that belong to a part which a file of the package may not import."""
    part = Path(file).parts[0].removesuffix(".py")
    allowed = ALLOWED[part] | PRINTED.get(file, frozenset()) | {part, "__version__"}
    return {name for name in names if name.split(".")[0] not in allowed}


def test_imports_point_one_way() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in MODULES}
    found = {file: forbidden_imports(file, imported(path)) for file, path in files.items()}

    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tasks/task.py", "runs.evaluate"),
        ("reports/table.py", "analysis.compare"),
        ("results/score.py", "reports"),
        ("results/result.py", "analysis.rescore"),
        ("analysis/compare.py", "reports"),
        ("analysis/score.py", "models"),
        ("analysis/score.py", "prompts"),
        ("analysis/score.py", "runs.cells"),
    ],
)
def test_an_import_against_the_order_is_found(file: str, name: str) -> None:
    assert forbidden_imports(file, {"errors", name}) == {name}


def test_reports_do_not_import_what_prints_itself_by_them() -> None:
    seen = {name for path in MODULES if part_of(path) == "reports" for name in imported(path)}

    assert "results.score" in seen
    assert "results.result" not in seen


@pytest.mark.parametrize("part", ["scoring", "metrics", "references"])
def test_pure_parts_see_of_tasks_only_definitions_and_examples(part: str) -> None:
    seen = {name for path in MODULES if part_of(path) == part for name in imported(path)}

    assert {name for name in seen if name.startswith("tasks")} <= {
        "tasks.definition",
        "tasks.example",
        "tasks.extraction",
        "tasks.metric_names",
    }


def test_every_part_is_listed_in_the_import_order() -> None:
    assert {part_of(path) for path in MODULES} <= set(ALLOWED)


def test_the_package_itself_and_pure_parts_load_no_heavy_library() -> None:
    """Imported one after the other in one process; the first part that loads one is printed."""
    script = (
        f"import sys, importlib\nfor part in {['icl_eval', *(f'icl_eval.{part}' for part in LIGHT)]}:\n"
        f"    importlib.import_module(part)\n"
        f"    print(part, *[name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert loaded.splitlines() == ["icl_eval", *(f"icl_eval.{part}" for part in LIGHT)]
