from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from icl_eval.errors import IclEvalError, TaskError, UnknownName
from icl_eval.prompts import Prompt
from icl_eval.tasks import Library, MemorySource
from icl_eval.tasks.definition import Gold
from icl_eval.tasks.library import bundled
from icl_eval.tasks.located import load_yaml

SKY = """\
task: sky
about: What is the colour of the sky?
splits: {demonstrations: train, evaluation: validation}
fields: {text: text}
gold: {field: label, names: ["no", "yes"]}
options: ["No", "Yes"]
prompts: [plain]
"""
Write = Callable[..., Library]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a prompt and task files, given by name, and open the library of them."""

    def library(sky: str = SKY, **others: str) -> Library:
        prompt = tmp_path / "prompts" / "sky" / "plain.jinja"
        prompt.parent.mkdir(parents=True, exist_ok=True)
        prompt.write_text("{{ text }}", encoding="utf-8")
        for name, text in {"sky": sky, **others}.items():
            path = tmp_path / "tasks" / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Library([tmp_path])

    return library


def failure(library: Library, name: str = "sky") -> str:
    with pytest.raises(IclEvalError) as caught:
        library.task(name)
    assert type(caught.value) is not IclEvalError
    return str(caught.value).replace(f"{library.roots[0]}/", "")


def replaced(old: str, new: str) -> str:
    assert old in SKY
    return SKY.replace(old, new)


def test_task_file_with_every_default_loads(write: Write) -> None:
    task = write().task("sky")

    assert (task.name, task.definition.protocol.shots, task.definition.metrics) == ("sky", 32, ["accuracy"])
    assert task.prompt().query({"text": "blue"}, ("No", "Yes"), 0) == "blue"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: sky\nabout: [\n", "tasks/sky.yaml:3: the YAML does not parse: "),
        ("task: sky\n  about: x\n", "tasks/sky.yaml:2: the YAML does not parse: mapping values are not allowed here"),
        ("task: sky\n---\ntask: sea\n", "tasks/sky.yaml:2: the YAML does not parse: but found another document"),
        (
            "task: !!python/object/apply:os.getcwd []\n",
            "tasks/sky.yaml:1: the YAML does not parse: could not determine",
        ),
        ("? [a]\n: b\n", "tasks/sky.yaml:1: a key must be text"),
        ("about: x\nno: 1\n", "tasks/sky.yaml:2: YAML does not read the key `no` as text; put it in quotes"),
        ("about: x\n1: 1\n", "tasks/sky.yaml:2: YAML does not read the key `1` as text; put it in quotes"),
        ("about: 2024-13-45\n", "tasks/sky.yaml: the YAML does not parse: month must be in 1..12"),
        ("about: \x01\n", "tasks/sky.yaml: cannot be read: unacceptable character"),
        ("", "tasks/sky.yaml:1: a task file is a mapping of keys to values"),
        ("- a\n", "tasks/sky.yaml:1: a task file is a mapping of keys to values"),
        ("[" * 5000, "tasks/sky.yaml"),
    ],
)
def test_yaml_that_does_not_parse_is_named_with_its_line(text: str, message: str, write: Write) -> None:
    assert failure(write(text)).startswith(message)


def test_prompt_file_that_is_missing_is_named_by_its_path(write: Write) -> None:
    library = write()
    (library.roots[0] / "prompts/sky/plain.jinja").unlink()

    assert (
        failure(library)
        == "tasks/sky.yaml:7: no prompt of sky is named 'plain'; there is no file prompts/sky/plain.jinja"
    )


def test_a_single_prompt_file_need_not_be_named(write: Write) -> None:
    library = write(replaced("prompts: [plain]\n", ""), sea="task: sea\nextends: sky\n")
    assert [list(library.task(name).prompts) for name in ("sky", "sea")] == [["plain"], ["plain"]]

    (library.roots[0] / "prompts/sky/other.jinja").write_text("{{ text }}")
    assert failure(library) == "tasks/sky.yaml:1: the key `prompts` is missing"


def test_yaml_that_is_not_utf_8_is_an_error(write: Write) -> None:
    library = write()
    library.files["sky"].write_bytes(b"about: \xff\n")

    assert failure(library).startswith("tasks/sky.yaml: cannot be read: 'utf-8' codec")


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n"])
def test_alias_of_itself_is_an_error(text: str, write: Write) -> None:
    assert failure(write(text)) == "tasks/sky.yaml:1: this is too large or too deep for a task file"


def test_aliases_that_multiply_are_an_error(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert "too large or too deep for a task file" in failure(write("\n".join(lines)))


def test_merge_key_is_allowed(write: Write) -> None:
    assert write(SKY + "<<: {version: 2}\n").task("sky").definition.version == 2


def test_alias_of_a_list_is_allowed(write: Write) -> None:
    text = replaced('names: ["no", "yes"]', "names: &names [a, b]").replace('["No", "Yes"]', "*names")

    assert write(text).task("sky").definition.options == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("about:", "abuot:", ":2: no key is named 'abuot'; did you mean about?"),
        ("field: label", "feild: label", ":5: no key is named 'feild'; did you mean field?"),
        ("fields: {text", "data: {hub: {pth: a}}\nfields: {text", ":4: no key is named 'pth'; did you mean path?"),
        ("fields: {text", "protocol:\n  shot: 3\nfields: {text", ":5: no key is named 'shot'; did you mean shots?"),
        (
            "demonstrations: train",
            "demonstrations: {task: sea, splt: train}",
            ":3: no key is named 'splt'; did you mean split?",
        ),
        (", evaluation: validation", "", ":3: the key `splits.evaluation` is missing"),
        ("field: label, ", "", ":5: the key `gold.field` is missing"),
        (
            '{field: label, names: ["no", "yes"]}',
            "label",
            ":5: `gold`: this should be a mapping; its valid keys are field, names",
        ),
        (
            "demonstrations: train",
            "demonstrations: {task: sea}",
            ":3: the key `splits.demonstrations.split` is missing",
        ),
        ("prompts:", "about: again\nprompts:", ":7: the key `about` appears here and in line 2"),
        ("field: label,", "field: label, field: text,", ":5: the key `field` appears here and in line 5"),
        ('["No", "Yes"]', "[no, yes]", ":6: `options`: YAML reads this word as False; put it in quotes"),
        ('["no", "yes"]', "[no, yes]", ":5: `gold.names`: YAML reads this word as False; put it in quotes"),
        ('["No", "Yes"]', "[1, 2]", ":6: `options`: YAML reads this int as 1; put it in quotes"),
        ('["No", "Yes"]', "[]", ":6: `options`: this is empty"),
        ('["No", "Yes"]', '["No"]', ":6: `options` has a single entry; a task needs two or more"),
        ('["No", "Yes"]', "7", ":6: `options`: "),
        ("[plain]", "[]", ":7: `prompts`: this is empty"),
        ("[plain]", '["../plain"]', ":7: `prompts`, value '../plain': a name consists of letters, digits, `_`"),
        (
            "prompts: [plain]",
            "prompts: [plain]\nzero_shot_prompt: plane",
            ":8: `zero_shot_prompt` is 'plane', which is not among the `prompts`",
        ),
        ('["No", "Yes"]', '["No", "Yes", "Both"]', ":5: `gold.names` has 2 names for 3 options"),
        ("task: sky", "task: sea", ":1: the file has `task: sea`, but its path below `tasks` is 'sky'"),
        (
            "fields:",
            "protocol: {shots: -1}\nfields:",
            ":4: `protocol.shots`: Input should be greater than or equal to 0",
        ),
        (
            "fields:",
            "protocol: {draw: fixd}\nfields:",
            ":4: `protocol.draw`: Input should be 'per_example', 'per_group', 'fixed' or 'first'",
        ),
        (
            "fields:",
            "data: {adapter: multirk}\nfields:",
            ":4: no data adapter is named 'multirk'; did you mean multirc?",
        ),
        ("demonstrations: train", "demonstrations: {task: sea, split: train}", ":3: no task is named 'sea'"),
        (
            "demonstrations: train",
            "demonstrations: {task: sky, split: train}",
            ":3: for a split of the task itself, write",
        ),
        ("[plain]", "[plane]", ":7: no prompt of sky is named 'plane'; did you mean plain?"),
        ("[plain]", "[plain, fancy]", ":7: no prompt of sky is named 'fancy'; choose from plain"),
        ("fields: {text: text}", "fields: {text: no}", ":4: `fields.text`: YAML reads this word as False; put it in"),
        ("fields:", "extends: superglue\nfields:", ":4: 'superglue' is a suite, not a task"),
        ("fields:", "extends: [a]\nfields:", ":4: no task is named \"['a']\""),
    ],
)
def test_mistake_is_named_with_its_line(old: str, new: str, message: str, write: Write) -> None:
    assert failure(write(replaced(old, new))).startswith(f"tasks/sky.yaml{message}")


WRITTEN = """\
task: sky
about: What is the colour of the sky?
splits: {demonstrations: train, evaluation: validation}
fields: {text: text}
answer: text
references: colours
prompts: [plain]
"""


def test_text_is_decoded_as_the_defaults_say_and_matched_exactly(write: Write) -> None:
    definition = write(WRITTEN).task("sky").definition

    assert definition.decode is not None
    assert definition.decode.model_dump() == {
        "max_tokens": 64,
        "stop": ["\n"],
        "beams": 1,
        "length_penalty": 0.6,
        "penalty": "gnmt",
        "samples": 1,
        "temperature": 0,
        "top_p": 1,
    }
    assert definition.metrics == ["squad_em"]


def test_likelihood_is_measured_by_perplexity(write: Write) -> None:
    definition = write(WRITTEN.replace("answer: text", "answer: likelihood")).task("sky").definition

    assert (definition.decode, definition.metrics, definition.references) == (None, ["perplexity"], "colours")


def test_choice_has_no_decoding(write: Write) -> None:
    definition = write().task("sky").definition

    assert (definition.answer, definition.decode, definition.references) == ("choice", None, None)


def test_null_takes_an_inherited_key_away(write: Write) -> None:
    written = "task: sea\nabout: x\nextends: sky\nanswer: text\nreferences: colour\noptions: null\ngold: null\n"

    assert write(sea=written).task("sea").definition.gold is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("references: colours\n", "", ":1: the key `references` is missing"),
        ("answer: text\n", "", ":1: the key `gold` is missing"),
        ("answer: text\n", "gold: {field: label}\n", ":1: the key `options` is missing"),
        (
            "answer: text\n",
            "gold: {field: label}\noptions: [a, b]\n",
            ":7: `references` belongs to `answer: text` and `answer: likelihood`, and this is `answer: choice`",
        ),
        ("prompts:", "options: [a]\nprompts:", ":7: `options` belongs to `answer: choice`, and this is `answer: text`"),
        (
            "answer: text\n",
            "answer: likelihood\ngold: {field: a}\n",
            ":6: `gold` belongs to `answer: choice` and `answer: text`, and this is `answer: likelihood`",
        ),
        (
            "prompts:",
            "gold: {field: a, names: [x, y, z]}\nprompts:",
            ":7: `gold.names` has 3 names, but needs two: for wrong and for right references",
        ),
        (
            "answer: text\n",
            "answer: likelihood\ndecode: {beams: 4}\n",
            ":6: `decode` belongs to `answer: text`, and this is `answer: likelihood`",
        ),
        ("answer: text", "answer: txt", ":5: `answer`: Input should be 'choice', 'text' or 'likelihood'"),
        ("prompts:", "decode: {beam: 4}\nprompts:", ":7: no key is named 'beam'; did you mean beams?"),
        (
            "prompts:",
            "extract:\n  last:\n    - {lastnumber: true}\nprompts:",
            ":9: no key is named 'lastnumber'; did you mean last_number?",
        ),
        (
            "prompts:",
            "extract: {last: [7]}\nprompts:",
            ":7: `extract.last`, value 7: this should be a mapping; its valid keys are pattern, take, after,",
        ),
        ("prompts:", "decode: {beams: 0}\nprompts:", ":7: `decode.beams`: Input should be greater than or equal to 1"),
        ("prompts:", "decode: {stop: x}\nprompts:", ":7: `decode.stop`: Input should be a valid list, as in `[...]`"),
        (
            "prompts:",
            "extract: [last_number]\nprompts:",
            ":7: `extract`: this should be a mapping with names of your choice, as in `name: ...`",
        ),
        (
            "prompts:",
            "decode: {stop: ['']}\nprompts:",
            ":7: `decode.stop`, value '': this is empty",
        ),
        (
            "prompts:",
            "decode: {temperature: .inf}\nprompts:",
            ":7: `decode.temperature`: Input should be a finite number",
        ),
        ("prompts:", "decode: {top_p: 0}\nprompts:", ":7: `decode.top_p`: Input should be greater than 0"),
        ("prompts:", "decode: {penalty: wu}\nprompts:", ":7: `decode.penalty`: Input should be 'gnmt' or 'power'"),
        (
            "prompts:",
            "decode: {beams: 4, temperature: 0.5}\nprompts:",
            ":7: `decode`: beams are searched at temperature 0; choose `beams` or `temperature`",
        ),
        (
            "prompts:",
            "decode: {samples: 3}\nprompts:",
            ":7: `decode`: several `samples` at temperature 0 would all be the same; set a `temperature`",
        ),
        (
            "prompts:",
            "data: {synthetic: two_digit_adition}\nprompts:",
            ":7: no generator of records is named 'two_digit_adition'; did you mean two_digit_addition",
        ),
        (
            "prompts:",
            "data: {synthetic: reversed_words, hub: {path: a/b}}\nprompts:",
            ":7: `data`: records are made by `synthetic` or come from the `hub`, not both",
        ),
    ],
)
def test_mistake_in_a_task_of_texts_is_named_with_its_line(old: str, new: str, message: str, write: Write) -> None:
    assert old in WRITTEN
    assert failure(write(WRITTEN.replace(old, new))).startswith(f"tasks/sky.yaml{message}")


def test_unknown_task_names_the_nearest(write: Write) -> None:
    assert failure(write(), "skye") == "no task or suite is named 'skye'; did you mean sky?"
    assert failure(Library(), "superglue/rt").startswith("no task or suite is named 'superglue/rt'; did you mean super")


def test_suite_is_not_a_task(write: Write) -> None:
    library = write(group="suite: group\nabout: x\ntasks: [sky]\n")

    assert failure(library, "group") == "tasks/group.yaml:1: 'group' is a suite, not a task"


def test_suites_are_taken_apart_and_each_task_is_loaded_once(write: Write) -> None:
    library = write(group="suite: group\nabout: x\ntasks: [sky]\n")

    assert [task.name for task in library.tasks(["group", "sky"])] == ["sky"]
    assert (library.is_suite("group"), library.is_suite("sky")) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: group\nabout: x\ntasks: [sky, skye]\n", ":3: no task is named 'skye'; did you mean sky?"),
        ("suite: grupp\nabout: x\ntasks: [sky]\n", ":1: the file has `suite: grupp`"),
        ("suite: group\nabout: x\ntasks: []\n", ":3: `tasks`: this is empty"),
        ("suite: group\nabout: x\ntask: [sky]\n", ":3: no key is named 'task'; did you mean tasks?"),
    ],
)
def test_mistake_in_a_suite_is_named_with_its_line(text: str, message: str, write: Write) -> None:
    with pytest.raises(IclEvalError) as caught:
        write(group=text).suite("group")
    path, _, rest = str(caught.value).partition(".yaml")

    assert path.endswith("tasks/group")
    assert rest.startswith(message)


def test_broken_task_does_not_stop_another(write: Write) -> None:
    library = write(broken="task: [", torn="\x01")

    assert library.task("sky").name == "sky"
    assert {"broken", "torn", "sky", "superglue"} <= set(library.names())


def test_broken_prompt_does_not_stop_another_task(write: Write, tmp_path: Path) -> None:
    library = write(sea=SKY.replace("sky", "sea"))
    path = tmp_path / "prompts" / "sea" / "plain.jinja"
    path.parent.mkdir()
    path.write_text("{{", encoding="utf-8")

    assert library.task("sky").name == "sky"
    assert failure(library, "sea").startswith("prompts/sea/plain.jinja:1: the template does not parse")


def test_name_defined_below_two_roots_is_an_error(write: Write, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "tasks").mkdir(parents=True)
    shutil.copy(write().files["sky"], other / "tasks" / "sky.yaml")
    library = Library([tmp_path, other])

    with pytest.raises(
        TaskError, match=r"is also defined by .*other/tasks/sky\.yaml; rename one of the two$"
    ) as caught:
        library.names()
    assert caught.value.path == tmp_path / "tasks" / "sky.yaml"  # the first root's, for the bundled library comes last


def test_bundled_root_may_be_named_too() -> None:
    assert Library([bundled()]).names() == Library().names()


def test_root_without_tasks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="there is no folder `tasks` here"):
        Library([tmp_path])


def test_extending_task_merges_mappings_and_replaces_the_rest(write: Write) -> None:
    task = write(sea='task: sea\nextends: sky\ngold: {field: answer}\noptions: ["N", "Y"]\n').task("sea")

    assert task.definition.gold == Gold(field="answer", names=["no", "yes"])
    assert task.definition.options == ["N", "Y"]
    assert task.definition.about == "What is the colour of the sky?"
    assert list(task.prompts) == ["plain"]


def test_an_extending_task_prefers_the_prompt_it_defines(write: Write, tmp_path: Path) -> None:
    library = write(sea="task: sea\nextends: sky\n")
    path = tmp_path / "prompts" / "sea" / "plain.jinja"
    path.parent.mkdir()
    path.write_text("sea: {{ text }}", encoding="utf-8")

    assert library.task("sea").prompt().query({"text": "t"}, (), 0) == "sea: t"
    assert library.task("sky").prompt().query({"text": "t"}, (), 0) == "t"


def test_prompts_are_inherited_over_several_tasks(write: Write) -> None:
    library = write(sea="task: sea\nextends: sky\n", deep__sea="task: deep/sea\nextends: sea\n")

    assert library.task("deep/sea").prompt().query({"text": "t"}, (), 0) == "t"


def test_mistake_in_the_extended_file_is_named_there(write: Write) -> None:
    library = write(replaced("field: label", "feild: label"), sea="task: sea\nextends: sky\nabout: x\n")

    assert failure(library, "sea") == "tasks/sky.yaml:5: no key is named 'feild'; did you mean field?"


def test_mistake_in_the_extending_file_is_named_there(write: Write) -> None:
    library = write(sea="task: sea\nextends: sky\ngold: {nmes: [a, b]}\n")

    assert failure(library, "sea") == "tasks/sea.yaml:3: no key is named 'nmes'; did you mean names?"


def test_name_of_the_extended_task_is_not_inherited(write: Write) -> None:
    assert failure(write(sea="extends: sky\n"), "sea") == "tasks/sea.yaml:1: the key `task` is missing"


def test_unknown_extended_task_names_the_nearest(write: Write) -> None:
    library = write(sea="task: sea\nextends: skye\n")

    assert failure(library, "sea") == "tasks/sea.yaml:2: no task is named 'skye'; did you mean sky?"


@pytest.mark.parametrize(("sky", "sea"), [("sky", ""), ("sea", "sky")], ids=["itself", "each other"])
def test_circle_of_extending_tasks_is_an_error(sky: str, sea: str, write: Write) -> None:
    library = write(f"task: sky\nextends: {sky}\n", sea=f"task: sea\nextends: {sea}\n")

    assert failure(library).endswith(":2: 'sky' extends itself")


def test_tasks_may_show_each_others_examples(write: Write) -> None:
    def text(name: str, other: str) -> str:
        demonstrations = f"demonstrations: {{task: {other}, split: train}}"
        return SKY.replace("sky", name).replace("demonstrations: train", demonstrations)

    library = write(text("sky", "sea"), sea=text("sea", "sky"))
    (library.roots[0] / "prompts" / "sea").mkdir()
    shutil.copy(library.roots[0] / "prompts" / "sky" / "plain.jinja", library.roots[0] / "prompts" / "sea")
    source = MemorySource({"train": [{"text": "t", "label": 0}]})

    assert [each.fields for each in library.task("sea").demonstrations(source)] == [{"text": "t"}]


def test_every_bundled_file_loads_and_every_bundled_prompt_belongs_to_a_task() -> None:
    library = Library()
    names = [name for name in library.names() if not library.is_suite(name)]
    tasks = [library.task(name) for name in names]
    used = {prompt.path for task in tasks for prompt in task.prompts.values()}

    assert [task.name for task in tasks] == names
    assert len(tasks) >= 11
    assert all(task.prompts for task in tasks)
    assert used == set((bundled() / "prompts").rglob("*.jinja"))


def test_a_file_is_read_once_however_many_tasks_extend_or_share_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(kind: Callable[[Path], object]) -> Callable[[Path], object]:
        def noting(path: Path) -> object:
            read.append(path.name)
            return kind(path)

        return noting

    monkeypatch.setattr("icl_eval.tasks.library.load_yaml", noted(load_yaml))
    monkeypatch.setattr(Prompt, "from_file", noted(Prompt.from_file))
    library = write(sea="task: sea\nextends: sky\n", fog="task: fog\nextends: sea\n")

    assert [task.name for task in library.tasks(["sky", "sea", "fog"])] == ["sky", "sea", "fog"]
    assert sorted(read) == ["fog.yaml", "plain.jinja", "sea.yaml", "sky.yaml"]


def test_a_file_that_has_changed_is_read_again(write: Write, tmp_path: Path) -> None:
    library = write()
    before = library.task("sky")

    (tmp_path / "prompts" / "sky" / "plain.jinja").write_text("Sky: {{ text }}", encoding="utf-8")
    (tmp_path / "tasks" / "sky.yaml").write_text(replaced("the sky?", "the evening sky?"), encoding="utf-8")
    after = library.task("sky")

    assert (before.prompt().source, after.prompt().source) == ("{{ text }}", "Sky: {{ text }}")
    assert after.definition.about == "What is the colour of the evening sky?"


def test_unknown_prompt_of_a_task_names_the_nearest(write: Write) -> None:
    with pytest.raises(UnknownName, match=r"no prompt of sky is named 'plane'; did you mean plain\?"):
        write().task("sky").prompt("plane")
