"""Decoding options of a run, which override those of each task."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Result, Task, evaluate, explain, rescore
from icl_eval.errors import RunError, TaskError, UnknownName
from icl_eval.results.manifest import read_manifest
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.tasks import with_decoding
from icl_eval.tasks import Decode, Library
from icl_eval.testing import FakeLM

QUERY = "Q: {{ n }}\nA:"
FOUR = FakeLM({"Q: 1\nA:": " four\nmore", "Q: 2\nA:": " four;more"})


def toy(**overrides: Any) -> Task:
    records = [{"n": n, "r": "four"} for n in (1, 2)]
    overrides = {"answer": "text", "references": "r", "decode": {"max_tokens": 5}} | overrides
    return Task.from_records("toy", evaluation=records, demonstrations=[{"n": 9, "r": "x"}], prompt=QUERY, **overrides)


def choice() -> Task:
    records = [{"n": n, "label": 0} for n in (1, 2)]
    return Task.from_records("choice", evaluation=records, prompt=QUERY, options=["four", "five"])


def texts(folder: Path) -> list[list[str]]:
    return [json.loads(line)["generated"] for line in (folder / "examples.jsonl").read_text().splitlines()]


def measured(folder: Path, decode: Any = None, task: Task | None = None) -> Result:
    return evaluate(FOUR, task or toy(), shots=0, out=folder, decode=decode)


def test_what_is_named_is_changed_and_the_rest_stays_as_the_task_has_it(tmp_path: Path) -> None:
    default = measured(tmp_path / "default")
    short = measured(tmp_path / "short", {"max_tokens": 3})
    stopped = measured(tmp_path / "stopped", {"max_tokens": 9, "stop": [";", "\n"]})

    assert texts(tmp_path / "default") == [[" four"], [" four"]]
    assert texts(tmp_path / "short") == [[" fo"], [" fo"]]
    assert texts(tmp_path / "stopped") == [[" four"], [" four"]]
    assert [result.scores[0].signature.split("|")[5] for result in (default, short, stopped)] == [
        "greedy-max5-stop(\\n)",
        "greedy-max3-stop(\\n)",
        "greedy-max9-stop(;,\\n)",
    ]
    assert [result.scores[0].value for result in (default, short, stopped)] == [1.0, 0.0, 1.0]


def test_signature_is_that_of_a_task_that_is_decoded_so(tmp_path: Path) -> None:
    overridden = measured(tmp_path / "overridden", {"beams": 2, "max_tokens": 6})
    defined = measured(tmp_path / "defined", task=toy(decode={"beams": 2, "max_tokens": 6}))

    assert overridden.scores[0].signature == defined.scores[0].signature
    assert overridden.scores[0].normalization == "beam2-gnmt0.6"


def test_manifest_states_the_decoding(tmp_path: Path) -> None:
    measured(tmp_path, {"beams": 2, "stop": ["."]})

    assert read_manifest(tmp_path).config.decode == {"beams": 2, "stop": ["."]}


def test_the_same_decoding_is_the_same_configuration_however_it_is_written(tmp_path: Path) -> None:
    measured(tmp_path, {"max_tokens": 9, "stop": (";", "\n")})
    again = measured(tmp_path, {"stop": [";", "\n"], "max_tokens": 9})
    names = [
        RunConfig(model="m", tasks=("t",), decode=decode).folder_name()
        for decode in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]

    assert again.manifest.reused == 2
    assert names[0] == names[1]


def test_texts_that_are_cut_or_blank_are_counted_and_wrong(tmp_path: Path) -> None:
    """Of two answers, ` four\\nmore` and ` four;more`, five tokens hold ` four` and no stop."""
    cut = measured(tmp_path / "cut").scores[0]
    stopped = measured(tmp_path / "stopped", {"max_tokens": 6}).scores[0]
    blank = measured(tmp_path / "blank", {"stop": [" "]}).scores[0]
    never = measured(tmp_path / "never", {"stop": ["@@"], "max_tokens": 10}).scores[0]

    assert [(each.hit_max_tokens, each.empty) for each in (cut, stopped, blank, never)] == [
        (2, 0),
        (1, 0),
        (0, 2),
        (2, 0),
    ]
    assert [each.value for each in (cut, stopped, blank, never)] == [1.0, 1.0, 0.0, 0.0]  # SQuAD drops ` four;`'s mark
    assert "2 texts are empty and scored as such" in rescore(tmp_path / "blank").table()


def test_a_decoding_may_be_given_whole(tmp_path: Path) -> None:
    measured(tmp_path, Decode(max_tokens=2))

    assert texts(tmp_path) == [[" f"], [" f"]]


def test_a_configuration_without_rare_options_names_its_folder_as_before() -> None:
    config = RunConfig(model="tiny", tasks=("coqa",))
    rare = {
        *("decode", "draw", "select", "encoder", "order", "labels", "fewshot_ids", "metrics"),
        *("formats", "budget", "calibrate", "content_free", "until", "per_shot_loss"),
        *(n for n in RunConfig.model_fields if "chat" in n),
    }
    fields = {name: getattr(config, name) for name in RunConfig.model_fields if name not in rare}
    before = json.dumps(fields, separators=(",", ":"))

    assert config.model_dump_json() == before
    assert config.folder_name() == f"coqa-tiny-{hashlib.sha256(before.encode()).hexdigest()[:8]}"
    assert RunConfig.model_validate_json(before) == config
    assert RunConfig(model="tiny", tasks=("coqa",), metrics=("coqa_em",)).folder_name() == config.folder_name()


def test_another_decoding_is_another_folder() -> None:
    configs = [RunConfig(model="tiny", tasks=("coqa",), decode=decode) for decode in (None, {"beams": 1}, {"beams": 2})]

    assert len({config.folder_name() for config in configs}) == 3
    assert [RunConfig.model_validate_json(config.model_dump_json()) for config in configs] == configs


def test_a_folder_is_of_one_decoding(tmp_path: Path) -> None:
    measured(tmp_path)
    with pytest.raises(RunError, match="a run of fake on toy with other options: `decode`; give another"):
        measured(tmp_path, {"max_tokens": 3})


def test_tasks_of_other_kinds_stay_as_they_are(tmp_path: Path) -> None:
    both = evaluate(FOUR, [choice(), toy()], shots=0, decode={"max_tokens": 3})
    alone = evaluate(FOUR, choice(), shots=0)

    assert both.score("choice").signature == alone.score("choice").signature
    assert "max3" in both.score("toy").signature


def test_without_a_generative_task_decoding_is_an_error() -> None:
    with pytest.raises(RunError, match="--decode needs a task with generated answers, and there is only choice"):
        evaluate(FOUR, choice(), shots=0, decode={"max_tokens": 3})


@pytest.mark.parametrize("task", [toy, choice])
def test_unknown_name_names_the_nearest(task: Any) -> None:
    with pytest.raises(UnknownName, match=r"^no decoding option is named 'beam'; did you mean beams\?$"):
        evaluate(FOUR, task(), shots=0, decode={"beam": 2})


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ({"beams": 0}, "`beams`: Input should be greater than or equal to 1"),
        ({"beams": True}, "`beams`: Input should be a valid integer"),
        ({"penalty": "none"}, "`penalty`: Input should be 'gnmt' or 'power'"),
        ({"stop": 5}, "`stop`: Input should be a valid list"),
        ({"samples": 2}, "several `samples` at temperature 0 would all be the same; set a `temperature`"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_before_the_model_runs(decode: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError) as caught:
        evaluate(lm := FakeLM(), toy(), shots=0, decode=decode)

    assert str(caught.value) == f"toy cannot be decoded with these options: {message}"
    assert lm.answered == 0


def test_values_must_suit_what_stays_of_the_task() -> None:
    with pytest.raises(TaskError, match="beams are searched at temperature 0"):
        evaluate(FOUR, toy(decode={"beams": 4}), shots=0, decode={"temperature": 0.5})


def test_no_published_numbers_stand_beside_another_decoding() -> None:
    coqa = Library().task("coqa")
    default = coqa.definition.decode
    assert coqa.definition.reference is not None
    assert default is not None

    assert coqa.with_decoding({"beams": default.beams + 1}).definition.reference is None
    assert coqa.with_decoding({"beams": default.beams}) is coqa


def test_a_suite_with_a_task_that_is_decoded_differently_has_no_published_numbers_either() -> None:

    library = Library()
    suite = library.suite("superglue-generated").model_copy(update={"reference": "gpt3:SuperGLUE"})
    tasks = [library.task(name) for name in suite.tasks]

    assert [each.reference for each in with_decoding(tasks, [suite], {"max_tokens": 1000})[1]] == [None]
    assert [each.reference for each in with_decoding(tasks, [suite], None)[1]] == ["gpt3:SuperGLUE"]


def test_a_plan_counts_what_is_to_be_generated() -> None:
    lengths = [explain(FOUR, toy(), shots=0, decode=decode).workload.generated for decode in (None, {"max_tokens": 50})]

    assert lengths == [2 * 5, 2 * 50]
