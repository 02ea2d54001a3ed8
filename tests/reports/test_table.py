from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from icl_eval.errors import UnknownName
from icl_eval.reports import FORMATS, View, render
from icl_eval.results.score import Score

from .lines import AVERAGE, MANIFEST, RECORD, RTE, RTE_32, UNKNOWN

GOLDEN = Path(__file__).parent / "golden"
NOTED = MANIFEST.model_copy(update={"note": "mind the gap"})
COUNTED = MANIFEST.model_copy(update={"parameters": 124_439_808})
TWO_PROMPTS = MANIFEST.model_copy(update={"tasks": (RECORD, RECORD.model_copy(update={"prompt": "lettered"}))})


@pytest.mark.parametrize("format", ["table", "md", "latex", "html", "csv", "json"])
def test_a_run_is_printed_as_its_golden_file(format: str) -> None:
    assert render([RTE, RTE_32, UNKNOWN, AVERAGE], NOTED, format) == (GOLDEN / f"run.{format}").read_text("utf-8")


def test_texts_without_end_and_without_words_are_counted_once_a_cell() -> None:
    written = replace(RTE, metric="squad_em", hit_max_tokens=3, empty=2)
    table = render(
        [written, replace(written, metric="squad_f1"), replace(written, shots=1, hit_max_tokens=4)], MANIFEST
    )

    assert "7 texts were cut off at `max_tokens`\n" in table
    assert "4 texts are empty and scored as such\n" in table
    assert "texts" not in render([RTE], MANIFEST)


def test_a_single_loss_is_stated_in_the_singular() -> None:
    one = replace(RTE, metric="squad_em", shortened=1, truncated=1, ties=1, hit_max_tokens=1, empty=1)
    table = render([one], MANIFEST)

    for sentence in ("1 prompt has ", "1 query was ", "1 answer had ", "1 text was cut off", "1 text is empty"):
        assert f"\n{sentence}" in table


def test_no_interval_is_printed_where_only_the_possible_values_are_known() -> None:
    bounds = replace(RTE, low=0.0, high=1.0, interval="bounds")

    assert "0.505 to 0.622" in render([RTE], MANIFEST)
    assert " to " not in render([bounds], MANIFEST).splitlines()[-3]
    assert json.loads(render([bounds], MANIFEST, "json"))["scores"][0]["high"] == 1.0


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["memory"], "memory"),
        (["synthetic", "memory"], "memory+synthetic"),
        (["synthetic", "local"], "data"),
        (["local+memory"], "data"),
    ],
)
def test_heading_names_the_data_that_was_read(kinds: list[str], expected: str) -> None:
    records = tuple(RECORD.model_copy(update={"data": kind}) for kind in kinds)
    heading = render([RTE], MANIFEST.model_copy(update={"tasks": records})).splitlines()[0]

    assert MANIFEST.config.data == "data"
    assert heading.endswith(f"), data {expected}")


def test_formats_are_those_with_a_golden_file() -> None:
    assert sorted(FORMATS) == sorted(path.suffix[1:] for path in GOLDEN.glob("run.*"))


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no format is named 'jsonl'; did you mean json\?"):
        render([RTE], MANIFEST, "jsonl")


def test_csv_reads_back_as_the_scores() -> None:
    first, second, third = csv.DictReader(io.StringIO(render([RTE, RTE_32, UNKNOWN], COUNTED, "csv")))

    assert list(first) == ["model", "revision", "parameters", *Score.__dataclass_fields__]
    assert (first["model"], first["task"], float(first["value"])) == ("small", RTE.task, RTE.value)
    assert (first["revision"], first["parameters"]) == ("", "124439808")
    assert tuple(map(float, second["seed_values"].split())) == RTE_32.seed_values
    assert (first["seed_sd"], third["standard_error"], third["low"], third["high"]) == ("", "", "", "")


def test_json_reads_back_as_the_scores() -> None:
    document = json.loads(render([RTE, RTE_32, UNKNOWN], NOTED, "json"))

    assert {name: document[name] for name in ("model", "fingerprint", "note")} == {
        "model": "small",
        "fingerprint": "f1",
        "note": "mind the gap",
    }
    for entry, score in zip(document["scores"], [RTE, RTE_32, UNKNOWN], strict=True):
        stored = score.stored()
        assert {name: entry[name] for name in stored} == json.loads(json.dumps(stored))


def test_published_numbers_are_those_of_the_number_of_shots() -> None:
    zero, few = (_columns([score])["GPT-3 175B"] for score in (RTE, RTE_32))

    assert (zero, few) == ("0.635", "0.729")  # Table H.1: 63.5, and 72.9 with 32


def test_a_published_number_of_the_public_split_comes_before_the_test_servers() -> None:
    entries = json.loads(render([RTE_32], MANIFEST, "json"))["scores"][0]["published"]
    published = [(each["split"], each["value"]) for each in entries if each["system"] == "GPT-3 175B"]

    assert published == [("dev", 0.729), ("test", 0.69)]


@pytest.mark.parametrize("data", ["sample", "sample+local"])
@pytest.mark.parametrize("format", ["table", "md"])
def test_sample_data_is_labelled_and_has_no_published_number_beside_it(format: str, data: str) -> None:
    score = replace(RTE, data=data)
    text = render([score], MANIFEST, format)

    assert "superglue/rte (sample)" in text
    assert "GPT-3" not in text
    assert json.loads(render([score], MANIFEST, "json"))["scores"][0]["published"] == []


def test_a_column_without_anything_to_show_is_left_out() -> None:
    assert "sd seeds" not in _columns([RTE])
    assert "sd seeds" in _columns([RTE, RTE_32])
    assert "random" not in _columns([UNKNOWN])


def test_the_prompt_is_a_column_when_there_are_several() -> None:
    assert "prompt" not in render([RTE], MANIFEST).splitlines()[2]
    assert "prompt" in render([RTE], TWO_PROMPTS).splitlines()[2]


def test_what_a_score_had_to_do_without_is_reported_below() -> None:
    *_, short, cut, tied, close = render([RTE, RTE_32], MANIFEST).splitlines()

    assert short.startswith("1007 prompts have fewer demonstrations than requested, because the context length is 2048")
    assert cut == "2 queries were cut at the start to fit the context (--overflow truncate)"
    assert tied == "3 answers had several best options; the first of them was chosen"
    assert close == (
        "superglue/rte accuracy (32 shots): 4 of 1385 decisions are within the arithmetic noise of float32 "
        "(3e-06 nats a token): the score could be 0.578 to 0.581"
    )


def test_close_calls_that_leave_a_score_as_it_is_say_so_and_many_are_summed_up() -> None:
    firm = replace(RTE_32, noise_low=RTE_32.value, noise_high=RTE_32.value)
    *lines, last = render([replace(firm, shots=shots) for shots in range(10)], MANIFEST).splitlines()

    assert lines[-1].endswith("(3e-06 nats a token), none of which would change the score")
    assert last == "2 more scores have close calls: see `close_calls` in the formats json and csv"
    assert sum("decisions are within" in line for line in lines) == 8


def test_differences_that_do_not_fit_below_the_table_are_counted_with_what_prints_them() -> None:
    variants = [
        replace(RTE, prompt=f"p{number}", axis="prompts", baseline="gpt3", difference=0.1, difference_error=0.02)
        for number in range(1, 10)
    ]
    *_, eighth, last = render([RTE, *variants], MANIFEST).splitlines()

    assert eighth == "superglue/rte accuracy, p8 minus gpt3: +0.100 ± 0.020 (0 shots)"
    assert last == "1 more difference: see --columns from-baseline, or `difference` in the formats json and csv"


def test_ranges_of_the_losses_of_demonstrations_do_not_take_the_lines_of_scores() -> None:
    mean = replace(RTE, prompt="mean of 2 prompts", axis="prompts", variants=2, best="gpt3", worst="other")
    losses = [replace(mean, metric="per_shot_loss", shots=shots) for shots in range(10)]
    macro = replace(mean, by="subject", average="macro")
    table = render([RTE, *losses, mean, macro], MANIFEST)

    assert table.count("superglue/rte accuracy (0 shots), mean of 2 prompts: median") == 1
    assert "per_shot_loss (0 shots), mean of 2 prompts" not in table
    assert "more ranges" not in table


def test_notes_count_a_cell_once_whatever_its_metrics() -> None:
    twice = [RTE_32, replace(RTE_32, metric="macro_f1"), replace(RTE_32, metric="average", task="suite")]

    assert "3 answers had several best options" in render(twice, MANIFEST)


def test_a_note_stands_above_the_table() -> None:
    assert render([RTE], NOTED).splitlines()[1] == "note: mind the gap"
    assert render([RTE], NOTED, "md").splitlines()[1] == "note: mind the gap"
    assert "note" not in render([RTE], MANIFEST)


def test_markdown_rows_have_as_many_cells_as_the_head() -> None:
    rows = [line for line in render([RTE, RTE_32, UNKNOWN], MANIFEST, "md").splitlines() if line.startswith("| ")]

    assert len(rows) == 5
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize("format", ["table", "md", "latex"])
def test_every_score_has_its_signature_if_signatures_are_wanted(format: str) -> None:
    scores = [RTE, RTE_32, AVERAGE]

    assert all(score.signature in render(scores, MANIFEST, format, View(signatures=True)) for score in scores)
    assert not any(score.signature in render(scores, MANIFEST, format) for score in scores)


def _columns(scores: Sequence[Score]) -> dict[str, str]:
    """The columns of the last row, by name."""
    head, _, *rows = [line for line in render(scores, MANIFEST, "md").splitlines() if line.startswith("| ")]
    names, last = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in (head, rows[-1]))
    return dict(zip(names, last, strict=False))


@pytest.mark.parametrize(
    ("score", "column"),
    [(replace(RTE_32, split="dev"), "split"), (replace(RTE_32, fewshot_split="dev"), "few-shot split")],
)
@pytest.mark.parametrize("format", ["table", "md"])
def test_other_splits_have_a_column_and_no_published_number_beside_them(format: str, score: Score, column: str) -> None:
    assert _columns([score])[column] == "dev"
    assert "GPT-3" not in render([score], MANIFEST, format)
    assert column not in _columns([RTE_32])


def test_markdown_shows_text_from_data_as_text() -> None:
    hostile = replace(RTE, task="<script>|[a](b)*`c`\\")

    assert r"&lt;script&gt;\|\[a\](b)\*\`c\`\\" in render([hostile], MANIFEST, "md")
    assert "note: &lt;b&gt;" in render([RTE], MANIFEST.model_copy(update={"note": "<b>"}), "md")
