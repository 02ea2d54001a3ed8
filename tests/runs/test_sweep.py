from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from toy_tasks import ASKED, answers, parity, records, write_library

from icl_eval import Library, Sweep, Task, evaluate, rescore_sweep, sweep
from icl_eval.errors import DataError, MetricError, ModelError, RunError
from icl_eval.models import ScoreAnswer
from icl_eval.results.members import Member
from icl_eval.runs.cells import prepare
from icl_eval.testing import FakeLM

from .dying import Stopping
from .folders import journal, manifest

FILES = ("scores.json", "examples.jsonl")


def weak() -> FakeLM:
    return FakeLM(answers([0]), name="weak")


def strong() -> FakeLM:
    return FakeLM(answers(ASKED), name="strong")


def listed(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "sweep.json").read_text())["members"])


def contents(folder: Path) -> dict[str, bytes]:
    found = {f"{each['model']} {name}": folder / each["folder"] / name for each in listed(folder) for name in FILES}
    return {name: path.read_bytes() for name, path in found.items()}


def stopping(reason: BaseException, after: int = 0) -> FakeLM:
    """`strong`, until it stops."""
    return Stopping(answers(ASKED), reason, after=after, name="strong")


def test_every_model_has_the_scores_of_a_separate_run() -> None:
    found = sweep([weak(), strong()], parity(), shots=[0, 2], seeds=2)
    alone = [evaluate(lm, parity(), shots=[0, 2], seeds=2) for lm in (weak(), strong())]

    assert [result.scores for result in found] == [result.scores for result in alone]
    assert [result.score("parity", 0).value for result in found] == [1 / 8, 1.0]
    assert (len(found), found.failures, found.folder) == (2, (), None)


def test_a_sweep_is_a_folder_of_run_folders_and_their_list(tmp_path: Path) -> None:
    found = sweep([strong(), weak()], parity(), shots=0, out=tmp_path)

    assert [(each["model"], each["revision"], each["failed"]) for each in listed(tmp_path)] == [
        ("strong", None, None),
        ("weak", None, None),
    ]
    folders = [tmp_path / each["folder"] for each in listed(tmp_path)]
    assert [result.folder for result in found] == folders
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"sweep.json", *(path.name for path in folders)}
    for folder in folders:
        run = {path.name for path in folder.iterdir()} - {".lock"}
        assert run == {"manifest.json", "answers.jsonl", "examples.jsonl", "prompts.jsonl", "scores.json"}


def test_the_folder_of_a_model_is_named_after_it_whoever_else_is_there(tmp_path: Path) -> None:
    sweep([strong(), weak()], parity(), shots=0, out=tmp_path / "two")
    sweep([weak()], parity(), shots=0, out=tmp_path / "one")
    (alone,) = listed(tmp_path / "one")

    assert alone == listed(tmp_path / "two")[1]
    assert alone["folder"].startswith("weak-")


def test_models_of_the_same_last_name_have_different_folders(tmp_path: Path) -> None:
    mine, yours = (FakeLM(answers([right]), name=f"{owner}/lm") for right, owner in enumerate(("mine", "yours")))
    sweep([mine, yours], parity(), shots=0, out=tmp_path)
    first, second = (each["folder"] for each in listed(tmp_path))

    assert first != second
    assert first.startswith("lm-")
    assert second.startswith("lm-")


def test_a_kept_sweep_without_a_folder_goes_to_the_same_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = sweep([weak(), strong()], parity(), shots=0, keep=True)
    again = sweep([weak(), strong()], parity(), shots=0, keep=True)
    other = sweep([strong(), weak()], parity(), shots=0, keep=True)

    assert first.folder == again.folder != other.folder
    assert first.folder is not None
    assert str(first.folder).startswith("results/parity-weak-strong-")


def test_the_same_sweep_again_computes_nothing(tmp_path: Path) -> None:
    sweep([weak(), strong()], parity(), shots=[0, 2], out=tmp_path)
    before, models = contents(tmp_path), [weak(), strong()]
    sweep(models, parity(), shots=[0, 2], out=tmp_path)

    assert [lm.answered for lm in models] == [0, 0]
    assert contents(tmp_path) == before


def test_a_sweep_interrupted_in_its_second_model_goes_on_there(tmp_path: Path) -> None:
    whole = strong()
    sweep([weak(), whole], parity(), shots=[0, 2], out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sweep([weak(), stopping(KeyboardInterrupt(), after=7)], parity(), shots=[0, 2], out=tmp_path / "cut")
    with pytest.raises(RunError, match="this run is not finished; the same command continues it"):
        rescore_sweep(tmp_path / "cut")
    models = [weak(), strong()]
    sweep(models, parity(), shots=[0, 2], out=tmp_path / "cut")

    assert [lm.answered for lm in models] == [0, whole.answered - 7]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_another_model_may_join_a_sweep(tmp_path: Path) -> None:
    sweep([weak()], parity(), shots=0, out=tmp_path)
    models = [strong(), weak()]
    sweep(models, parity(), shots=0, out=tmp_path)

    assert [lm.answered for lm in models] == [18, 0]
    assert [each["model"] for each in listed(tmp_path)] == ["strong", "weak"]


class Damaged(FakeLM):
    """A model whose weights give no log-probabilities."""

    def score(self, requests: Any, sink: Any) -> None:
        super().score(
            requests,
            lambda index, answer: sink(index, ScoreAnswer((math.nan,) * len(answer.logprobs), answer.greedy)),
        )


REASON = "the model returns a log-probability of nan; its weights may be damaged"


def test_a_model_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    found = sweep([Damaged(name="broken"), strong()], parity(), shots=0, out=tmp_path)

    assert [result.manifest.model_name for result in found] == ["strong"]
    assert [(each.label, each.failed) for each in found.failures] == [("broken", REASON)]
    assert [each["failed"] for each in listed(tmp_path)] == [REASON, None]
    assert f"broken was not evaluated: {REASON}" in found.table()


def test_a_window_too_small_fails_its_model_alone() -> None:
    found = sweep([FakeLM(name="narrow", window=3), strong()], parity(), shots=0)

    assert [each.label for each in found.failures] == ["narrow"]
    assert "the query alone takes" in str(found.failures[0].failed)
    assert len(found) == 1


def test_a_model_that_failed_is_tried_again(tmp_path: Path) -> None:
    sweep([Damaged(name="weak"), strong()], parity(), shots=0, out=tmp_path)
    again = sweep([weak(), strong()], parity(), shots=0, out=tmp_path)

    assert len(again) == 2
    assert [each["failed"] for each in listed(tmp_path)] == [None, None]


def test_where_all_models_fail_there_is_an_error(tmp_path: Path) -> None:
    sentence = rf"^none of the models could be evaluated: one: {REASON[:20]}.*; two: {REASON[:20]}"
    with pytest.raises(ModelError, match=sentence):
        sweep([Damaged(name="one"), Damaged(name="two")], parity(), shots=0, out=tmp_path)
    with pytest.raises(ModelError, match=sentence):
        rescore_sweep(tmp_path)


def test_an_error_in_the_data_is_every_models_and_comes_before_the_folder(tmp_path: Path) -> None:
    task = Task.from_records("bad", evaluation=records([2]), prompt="Q: {{ n }}\nA:", options=["a", "b"], gold="n")
    with pytest.raises(DataError, match="the label 2 is out of range for 2 options"):
        sweep([weak(), strong()], task, shots=0, out=tmp_path / "sweep")

    assert not (tmp_path / "sweep").exists()


def test_an_error_that_no_model_causes_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MetricError):
        sweep([stopping(MetricError("cannot be taken")), weak()], parity(), shots=0)
    with pytest.raises(ZeroDivisionError):
        sweep([stopping(ZeroDivisionError()), weak()], parity(), shots=0)


def test_rescoring_gives_the_table_of_the_sweep(tmp_path: Path) -> None:
    original = sweep([weak(), Damaged(name="broken"), strong()], parity(), shots=[0, 2], out=tmp_path)

    for format in ("table", "md", "csv", "json"):
        assert rescore_sweep(tmp_path).table(format) == original.table(format)
    by_byte = rescore_sweep(tmp_path, "byte")
    assert {line.normalization for result in by_byte for line in result} == {"byte"}


def test_a_sweep_as_a_frame_has_the_model_in_front(tmp_path: Path) -> None:
    frame = sweep([weak(), strong()], parity(), shots=[0, 2]).to_frame()

    assert list(frame.columns[:4]) == ["model", "revision", "parameters", "task"]
    assert frame[["model", "shots", "value"]].values.tolist() == [
        ["weak", 0, 1 / 8],
        ["weak", 2, 1 / 8],
        ["strong", 0, 1.0],
        ["strong", 2, 1.0],
    ]


def test_a_sweep_prints_as_its_table() -> None:
    found = sweep([weak(), strong()], parity(), shots=0)

    assert str(found) == found.table()


class Loader:
    """Stands for loading by name and revision, and remembers what was loaded."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str | None]] = []

    def __call__(self, name: str, model_config: Any, load_config: Any) -> FakeLM:
        self.loaded.append((name, model_config.revision))
        right = range(len(name) + len(model_config.revision or ""))
        return FakeLM(answers(right), name=name)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    loader = Loader()
    monkeypatch.setattr("icl_eval.runs.model.load", loader)
    return loader


def test_every_model_is_measured_at_every_revision(loader: Loader, tmp_path: Path) -> None:
    found = sweep(["a", "bb"], parity(), revisions=["r", "s20"], shots=0, out=tmp_path)

    order = [("a", "r"), ("a", "s20"), ("bb", "r"), ("bb", "s20")]
    assert loader.loaded == order
    assert [(each["model"], each["revision"]) for each in listed(tmp_path)] == order
    assert [result.manifest.config.revision for result in found] == ["r", "s20", "r", "s20"]
    assert [result.score("parity").value * 8 for result in found] == [2, 4, 3, 5]
    assert all(f"-{each['revision']}-" in each["folder"] for each in listed(tmp_path))


def test_a_single_name_is_a_list_of_one(loader: Loader) -> None:
    assert [len(sweep(each, parity(), revisions="step10", shots=0)) for each in ("abc", Path("abc"))] == [1, 1]
    assert loader.loaded == [("abc", "step10")] * 2


@pytest.mark.parametrize(
    ("models", "options", "sentence"),
    [
        ([], {}, "the list of models is empty"),
        (["a", "b", "a"], {}, "'a' is listed twice among the models"),
        (["a"], {"revisions": ["x", "y", "x"]}, "'a@x' is listed twice among the models"),
        ([FakeLM(name="a"), FakeLM({"x": "y"}, name="a")], {}, "'a' is listed twice among the models"),
        (["a", FakeLM(name="a")], {}, "'a' is listed twice among the models"),
        (["tiny", FakeLM(name="tiny")], {}, "'tiny' is listed twice among the models"),
        (["a", "b"], {"revision": "x"}, "a sweep takes a list of `revisions` instead of one `revision`"),
        ([FakeLM()], {"revisions": ["x"]}, "`revision` has no effect on a model that is loaded already"),
    ],
)
def test_a_list_that_means_nothing_is_refused(
    models: list[Any], options: dict[str, Any], sentence: str, loader: Loader
) -> None:
    with pytest.raises(RunError) as error:
        sweep(models, parity(), shots=0, **options)

    assert str(error.value) == sentence
    assert loader.loaded == []


def test_what_is_no_model_is_refused(loader: Loader) -> None:
    with pytest.raises(ModelError, match="a int is not a model"):
        sweep(["a", 3], parity(), shots=0)  # type: ignore[list-item]
    with pytest.raises(ModelError, match=r"^\./gone|gone: there is no such model directory"):
        sweep(["a", "./gone"], parity(), shots=0)

    assert loader.loaded == []


def test_the_folder_of_a_run_is_none_of_a_sweep(tmp_path: Path) -> None:
    evaluate(weak(), parity(), shots=0, out=tmp_path)

    with pytest.raises(RunError) as error:
        sweep([weak(), strong()], parity(), shots=0, out=tmp_path)
    assert str(error.value) == f"{tmp_path}: this folder contains a run of a single model; give another --out"


def test_revisions_whose_names_differ_only_in_a_sign_have_different_folders() -> None:
    assert Member.of("model", "step/1").folder != Member.of("model", "step-1").folder


def test_the_folder_of_a_sweep_is_none_of_a_run(tmp_path: Path) -> None:
    from icl_eval import rescore

    sweep([weak()], parity(), shots=0, out=tmp_path)
    before = {path.name for path in tmp_path.iterdir()}

    with pytest.raises(RunError) as error:
        evaluate(weak(), parity(), shots=0, out=tmp_path)
    assert str(error.value) == f"{tmp_path}: this folder contains a sweep over several models; give another --out"
    with pytest.raises(RunError, match="this folder contains a sweep; the run of each model is in a folder inside it"):
        rescore(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_sweep_of_other_tasks_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    sweep([weak()], parity(), shots=0, out=tmp_path / "sweep")

    with pytest.raises(RunError, match=r"contains a run of .* give another --out"):
        sweep([weak()], "toy", data=root / "data", library=Library([root]), shots=0, out=tmp_path / "sweep")


@pytest.mark.parametrize("locked", [".", "member"])
def test_a_second_process_is_refused(locked: str, tmp_path: Path) -> None:
    sweep([weak()], parity(), shots=0, out=tmp_path)
    folder = tmp_path if locked == "." else tmp_path / listed(tmp_path)[0]["folder"]
    with FileLock(folder / ".lock"), pytest.raises(RunError) as error:
        sweep([weak()], parity(), shots=0, out=tmp_path)

    assert str(error.value) == f"{folder}: another process is writing this run folder"
    assert len(sweep([weak()], parity(), shots=0, out=tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"members": []}', '{"members": [{"model": "a"}]}'])
def test_a_damaged_list_of_models_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)

    with pytest.raises(RunError, match=rf"^{tmp_path / 'sweep.json'}: the list of models is damaged: "):
        rescore_sweep(tmp_path)


def test_a_folder_without_a_list_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="this is not the folder of a sweep"):
        rescore_sweep(tmp_path)


def test_a_model_says_how_many_parameters_it_has_or_nothing(tmp_path: Path) -> None:
    class Counted(FakeLM):
        parameter_count = 12_345

    class Module(FakeLM):
        def parameters(self) -> list[int]:
            return [1, 2]

    found = sweep([Counted(name="a"), Module(name="b"), FakeLM(name="c")], parity(), shots=0, out=tmp_path)

    assert [result.manifest.parameters for result in found] == [12_345, None, None]
    assert [manifest(tmp_path / each["folder"])["parameters"] for each in listed(tmp_path)] == [12_345, None, None]


@pytest.mark.parametrize("kept", [True, False])
def test_models_share_neither_journal_nor_answers(kept: bool, tmp_path: Path) -> None:
    found = sweep([weak(), strong()], parity(), shots=0, out=tmp_path if kept else None)

    assert [result.manifest.computed for result in found] == [18, 18]
    if kept:
        assert [len(journal(tmp_path / each["folder"])) for each in listed(tmp_path)] == [18, 18]


def test_the_data_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0

    def counting(*arguments: Any) -> Any:
        nonlocal counted
        counted += 1
        return prepare(*arguments)

    monkeypatch.setattr("icl_eval.runs.evaluate.prepare", counting)
    sweep([weak(), strong()], parity(), shots=0)

    assert counted == 1


def test_a_sweep_is_iterated_by_results() -> None:
    found: Sweep = sweep([weak(), strong()], parity(), shots=0)

    assert [result.manifest.model_name for result in found] == ["weak", "strong"]
