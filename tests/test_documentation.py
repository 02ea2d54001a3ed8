"""What the documentation says runs, and what it names exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from icl_eval.cli.app import app
from icl_eval.config import SAMPLE
from icl_eval.runs.tasks import selected, source_of
from icl_eval.tasks import Library

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "benchmarks" / "README.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "icl_eval" / "tiny").glob("*/*.md"),
]
WIDEST_CELL = 140  # characters, without the targets of links


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{page.name}-{number}", block)
        for page in PAGES
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
    ]


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in _blocks("python")])
def test_python_in_the_documentation_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "documentation", "exec"), {})

    assert "accuracy" in capsys.readouterr().out


def _commands() -> list[list[str]]:
    """The words of each command of icl-eval, without its name."""
    lines = [line for _, block in _blocks("console") for line in re.split(r"(?<!\\)\n|&&", block)]
    return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"\s*(\.venv/bin/)?icl-eval ", line)]


def test_commands_in_the_documentation_have_the_options_they_use() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    unknown = []
    invocations = _commands()
    for command, *arguments in invocations:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        unknown += [(command, word) for word in arguments if word.startswith("-") and word not in known]

    assert invocations
    assert unknown == []


def test_commands_without_a_model_or_data_name_tasks_of_the_bundled_sample() -> None:
    elsewhere = {"--model", "-m", "--data", "--data-dir", "--include"}
    words = [each for each in _commands() if each[0] in ("run", "show", "orders") and not elsewhere & {*each}]
    names = {each[each.index("--task") + 1] if "--task" in each else each[1] for each in words}
    tasks, _ = selected(sorted(names), {}, Library(), trust_remote_code=False)

    assert len(names) > 3
    assert all(task.evaluation(source_of(SAMPLE)) for task in tasks)


def _links(page: Path) -> list[tuple[str, str]]:
    """The links of a page to others: each path, and the section, empty if none is named."""
    return re.findall(r"\]\(([^)#:\s]*)#?([^):\s]*)\)", page.read_text("utf-8"))


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, path) for page in LINKED for path, _ in _links(page)]

    assert len(links) > 100
    assert [(page.name, path) for page, path in links if not (page.parent / path).exists()] == []


def test_the_readme_links_to_every_page() -> None:
    linked = {path for path, _ in _links(ROOT / "README.md")}

    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


def test_cells_of_tables_hold_phrases() -> None:
    cells = [
        (page.name, re.sub(r"\]\([^)]*\)", "]", cell))
        for page in LINKED
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("|")
        for cell in line.split(" | ")
    ]

    assert [(page, cell) for page, cell in cells if len(cell) > WIDEST_CELL] == []


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "", heading.lower())).strip().replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)}


def test_links_to_sections_lead_to_headings() -> None:
    links = [
        (page, (page.parent / target).resolve() if target else page, anchor)
        for page in LINKED
        for target, anchor in _links(page)
        if anchor
    ]

    assert links
    assert [(page.name, anchor) for page, target, anchor in links if anchor not in _anchors(target)] == []
