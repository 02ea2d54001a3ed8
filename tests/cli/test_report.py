from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from report_pages import Tables, document, without_documents
from toy_tasks import ASKED, knowing

from icl_eval import compare, rescore
from icl_eval.reports.html import breakable
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u202eevil\u2066 \x00\x1b[31m & \" '"
RUN = ("run", "-t", "toy/parity", "-m", "any", *TOY, "--shots", "0,1,2", "--seeds", "2")


@pytest.fixture
def page(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> str:
    model(knowing(0, 1, 2))
    assert icl_eval(*RUN, "--out", "one").code == 0
    return Path("one/report.html").read_text("utf-8")


def write_two_runs(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    for name, right in (("one", (0, 1, 2)), ("other", (0, 3, 4, 5, 6))):
        model(knowing(*right))
        assert icl_eval(*RUN, "--out", name, "--no-report").code == 0


def test_page_loads_nothing_and_allows_only_its_own_script(page: str) -> None:
    tables = Tables(page)
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page
    assert tables.scripts == [
        {"type": "text/plain", "id": "data"},
        {"type": "text/plain", "id": "prompts"},
        {"type": "text/plain", "id": "tokens"},
        {},
    ]
    assert not tables.tags & {"link", "img", "iframe", "object", "form", "base"}
    assert not re.search(r"\b(?:src|href)=\"(?!#)|url\(|@import|\bfetch\(|XMLHttpRequest", without_documents(page))


def test_page_table_csv_and_scores_have_the_same_numbers(page: str, icl_eval: IclEval) -> None:
    stored = json.loads(Path("one/scores.json").read_text())["scores"]
    rows = Tables(page).rows
    csv_rows = list(csv.DictReader(io.StringIO(icl_eval("rescore", "one", "-f", "csv").out)))
    terminal = icl_eval("rescore", "one", "--columns", "all").out

    for score, line in zip(stored, csv_rows, strict=True):
        assert float(line["value"]) == score["value"]
        value, error = f"{score['value']:.3f}", f"{score['standard_error']:.3f}"
        head = next(row for row in rows if "eff. shots" in row)
        found = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
        (cells,) = [each for each in found if each["shots"] == str(score["shots"])]
        assert (cells["task"], cells["score"], cells["±"], cells["n"]) == (score["task"], value, error, "8")
        assert re.search(rf"^ toy/parity +accuracy +token +{score['shots']} +{value} +{error} ", terminal, re.MULTILINE)
    pivot = next(row for row in rows if row[:2] == ["toy/parity", "accuracy"])
    assert pivot[2:5] == [f"{each['value']:.3f} ± {each['standard_error']:.3f}" for each in stored]


def test_items_agree_with_the_scores(page: str) -> None:
    data, prompts = document(page, "data"), document(page, "prompts")
    by_cell: dict[tuple[int, int], list[int]] = {}
    for cell, right in zip(data["cell"], data["right"], strict=True):
        _, _, _, shots, seed = data["cells"][cell]
        by_cell.setdefault((shots, seed), []).append(right)

    assert {len(each) for each in by_cell.values()} == {len(ASKED)}
    for score in rescore("one"):
        found = tuple(sum(by_cell[score.shots, seed]) / len(ASKED) for seed in score.seeds)
        assert found == pytest.approx(score.seed_values)
    frame = rescore("one").examples(prompts=True)
    for index, (parts, prompt) in enumerate(zip(prompts["items"], frame["prompt_text"], strict=True)):
        separator, *texts = (prompts["texts"][part] for part in parts)
        assert separator.join(texts) == prompt
        assert data["margin"][index] == pytest.approx(frame["margin"][index], abs=1e-4)


def test_tokens_of_an_item_concatenate_to_its_options_and_sum_to_their_scores(page: str) -> None:
    data, tokens = document(page, "data"), document(page, "tokens")
    at = data["normalizations"].index("sum")
    texts = ["".join(tokens["texts"][each] for each in sequence) for sequence in tokens["sequences"]]

    assert len(tokens["items"]) == len(data["id"])
    for index, item in enumerate(tokens["items"]):
        assert [texts[each] for each in item["texts"]] == [f" {name}" for name in data["names"][data["options"][index]]]
        sums = [sum(each) for each in item["logprobs"]]
        assert sums == pytest.approx([scores[at] for scores in data["scores"][index]], abs=0.01)


def test_tokens_without_stored_texts_have_only_log_probabilities(icl_eval: IclEval, page: str) -> None:
    prompts = Path("one/prompts.jsonl")
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    for line in lines:
        line.pop("tokens", None)
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    icl_eval("report", "one")
    found = document(Path("one/report.html").read_text("utf-8"), "tokens")

    assert {*map(str, (item["texts"] for item in found["items"]))} == {"None"}
    assert [item["logprobs"] for item in found["items"]] == [
        item["logprobs"] for item in document(page, "tokens")["items"]
    ]


def test_differences_agree_with_compare(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    write_two_runs(icl_eval, model)
    result = icl_eval("compare", "one", "other")
    rows = Tables(Path("other/compared-with-one.html").read_text("utf-8")).rows
    head = next(row for row in rows if "detectable" in row)
    found = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head) and row is not head]

    assert result.err == "report: other/compared-with-one.html\n"
    for pair, cells in zip(compare("one", "other"), found, strict=True):
        assert cells["first"] == f"{pair.one.value:.3f}"
        assert cells["difference"] == f"{pair.value:.3f} ± {pair.standard_error:.3f}"
        assert (cells["wins"], cells["losses"], cells["ties"]) == ("4", "2", "2")
        assert cells["p (Holm)"] == "1.000"


def test_report_of_three_models_has_a_table_of_all_models(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    write_two_runs(icl_eval, model)
    model(knowing(7))
    icl_eval(*RUN, "--out", "third")
    result = icl_eval("report", "one", "other", "third", "-o", "all.html")
    page = Path("all.html").read_text("utf-8")

    assert result.err == "report: all.html\n"
    assert "3 runs" in page
    assert ["", "fake (one)", "fake (other)", "fake (third)"] in Tables(page).rows
    assert document(page, "data")["runs"] == ["fake (one)", "fake (other)", "fake (third)"]


def test_hostile_texts_are_escaped(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    long = "x" * 1_000_000
    lm = model(knowing(0))
    lm.name = HOSTILE
    path = Path("data/parity/val.jsonl")
    for text in (HOSTILE, long):
        path.write_text(path.read_text() + json.dumps({"n": text, "pair": 0, "label": 0}) + "\n")
    assert icl_eval("run", "-t", "toy/parity", "-m", "any", *TOY, "--shots", "0", "--out", "one").code == 0
    page = Path("one/report.html").read_text("utf-8")
    data, prompts = document(page, "data"), document(page, "prompts")

    assert len(Tables(page).scripts) == 4
    assert "img" not in Tables(page).tags
    assert page.count("<script>") == 1
    for text in (page, json.dumps([data, prompts], ensure_ascii=False)):
        assert not {*text} & {"\u202e", "\u2066", "\x00", "\x1b"}
    assert any("⟨U+202E⟩evil⟨U+2066⟩ ⟨U+0000⟩" in each for each in data["id"])
    assert max(map(len, prompts["texts"])) < 30_000
    assert len(page) < 400_000


def test_page_of_many_tasks_without_items_is_small(icl_eval: IclEval, lm: FakeLM) -> None:
    from dataclasses import replace

    from icl_eval.reports.items import ReportRun
    from icl_eval.reports.report import report

    icl_eval(*RUN, "--out", "one")
    result = rescore("one")
    scores = [replace(each, task=f"task{i}") for i in range(57) for each in result.scores]
    run = ReportRun("model", result.manifest, scores, (), Path("one"), None)

    assert len(report([run])) < 300_000


def test_commands_write_a_report_unless_disabled(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    write_two_runs(icl_eval, model)
    assert not Path("one/report.html").exists()
    icl_eval("rescore", "one")
    first = Path("one/report.html").read_bytes()
    icl_eval("report", "one")
    assert Path("one/report.html").read_bytes() == first
    Path("one/report.html").unlink()
    icl_eval("rescore", "one", "--no-report")
    assert icl_eval("compare", "one", "other", "--no-report").err == ""
    icl_eval("report", "one", "other")

    assert sorted(path.name for path in Path().rglob("*.html")) == ["report.html"]
    assert Path("report.html").is_file()


def test_sweep_has_one_report_for_all_models(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(knowing(0, 1))
    icl_eval(*RUN, "-m", "second", "--out", "swept")
    found = list(Path("swept").rglob("*.html"))

    assert [path.as_posix() for path in found] == ["swept/report.html"]
    assert icl_eval("report", "swept").code == 0


def test_scores_are_printed_if_the_report_cannot_be_written(icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval(*RUN, "--out", "one", "--no-report")
    Path("one/report.html").mkdir()
    result = icl_eval("rescore", "one")

    assert (result.code, result.err[:40]) == (0, "note: the report was not written: one/re")
    assert "toy/parity" in result.out
    assert "one/report.html: cannot be written" in icl_eval("report", "one").mistake


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (["nowhere"], "nowhere: this is not a run folder: it does not exist"),
        ([], "missing argument 'RUN...'"),
    ],
)
def test_user_error_is_one_sentence(words: list[str], mistake: str, icl_eval: IclEval) -> None:
    assert icl_eval("report", *words).mistake.lower().startswith(mistake.lower())


def test_curves_of_variants_are_in_one_chart(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(knowing(0, 1, 2))
    assert icl_eval(*RUN, "--labels", "gold,flipped", "--out", "one").code == 0
    page = Path("one/report.html").read_text("utf-8")
    (figure,) = re.findall(
        r"<figure>(?:(?!</figure>).)*toy/parity accuracy(?:(?!</figure>).)*</figure>", page, re.DOTALL
    )

    assert "~labels=flipped</span>" in figure
    assert ["toy/parity plain~labels=flipped", "accuracy"] in [row[:2] for row in Tables(page).rows]
    shown = "+0.000 ± 0.000 (1 shot), +0.000 ± 0.000 (2 shots)"
    assert f"<li>toy/parity accuracy, plain~labels=flipped minus plain: {shown}</li>" in page


def test_charts_rows_and_notes_of_several_normalisations_have_distinct_names(
    icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]
) -> None:
    model(knowing(0, 1, 2))
    words = ("--labels", "gold,flipped", "--order", "drawn,permutations:2", "--normalization", "token,sum")
    assert icl_eval(*RUN, *words, "--out", "one").code == 0
    page = Path("one/report.html").read_text("utf-8")
    captions, notes = (re.findall(f"<{tag}>(.*?)</{tag}>", page) for tag in ("figcaption", "li"))
    (heat,) = re.findall(r'<table class="heat">.*?</table>', page)
    rows = re.findall("<tr><th>(.*?)</th>", heat)[1:]

    assert [each.replace("<wbr>", "") for each in captions] == ["toy/parity accuracy"]
    legend = re.findall(r"<figure>.*?</figure>", page.replace("<wbr>", ""))[0]
    assert all(
        f"{prompt} ({scoring})" in legend
        for prompt in ("plain", "plain~labels=flipped")
        for scoring in ("token", "sum")
    )
    assert len({*rows}) == len(rows) == 4
    assert {each.partition(",")[0] for each in notes if "median" in each} == {
        f"toy/parity accuracy ({scoring}) (2 shots)" for scoring in ("token", "sum")
    }


def test_items_can_be_filtered_by_prompt(page: str) -> None:
    assert '<select id="prompt">' in page
    assert "<span class=run>run</span><span>task</span><span class=prompt>prompt</span>" in page


def test_long_prompt_name_has_line_break_opportunities() -> None:
    assert breakable("a_b~labels=x/y,order=<3>") == "a_<wbr>b<wbr>~labels=x/<wbr>y,<wbr>order=&lt;3&gt;"
    assert breakable("~x/") == "~x/"
