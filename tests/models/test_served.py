from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from completions import NAME, Completions, Habits, failing, serving, wait_for_nothing
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_eval.engine import Engine
from icl_eval.errors import IclEvalError, ModelError, UnknownName
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, LanguageModel, ScoreRequest, load_model

from .checkpoints import byte_tokenizer, checkpoint

FORMS = {
    "prompt_logprobs-ids": Habits(echoes=False),
    "echo-ids": Habits(listed=False),
    "echo-text": Habits(listed=False, ids=False),
    "echo-ids-strict": Habits(listed=False, strict=True),
    "echo-text-strict": Habits(listed=False, ids=False, strict=True),
    "prompt_logprobs-ids+next-ids": Habits(echoes=False, chosen=True),
    "echo-text+next-top": Habits(listed=False, ids=False, top=100),
}
TEXTS = [("Tom has a cat. Ann has a", " dog"), ("Tom has a cat. Ann has a", " ship"), ("Über", " früh"), ("a", "b")]

Served = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("served") / "llama", max_position_embeddings=512, sharpness=20.0)


@pytest.fixture(scope="module")
def local(folder: Path) -> LanguageModel:
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def weights(folder: Path) -> tuple[Any, Any]:
    """The served model and its tokenizer, which no request changes."""
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def start(weights: tuple[Any, Any]) -> Iterator[Callable[[Habits], tuple[str, Completions]]]:
    with ExitStack() as stack:

        def started(habits: Habits) -> tuple[str, Completions]:
            served = Completions(*weights, replace(habits, first=deque(habits.first)))
            return stack.enter_context(serving(served)), served

        yield started


@pytest.fixture(scope="module")
def served_as(folder: Path, weights: tuple[Any, Any]) -> Iterator[Callable[[str], tuple[LanguageModel, Completions]]]:
    """A model connected once for each form, and its server."""
    with ExitStack() as stack:

        @cache
        def connected(form: str) -> tuple[LanguageModel, Completions]:
            server = Completions(*weights, FORMS[form])
            return load_model(stack.enter_context(serving(server)), tokenizer=str(folder)), server

        yield connected


@pytest.fixture
def connect(folder: Path, start: Any, monkeypatch: pytest.MonkeyPatch) -> Served:
    wait_for_nothing(monkeypatch)

    def connected(habits: Habits, **options: Any) -> LanguageModel:
        return load_model(start(habits)[0], **{"tokenizer": str(folder), **options})

    return connected


def requests(lm: LanguageModel, texts: list[tuple[str, str]] = TEXTS) -> list[ScoreRequest]:
    encoded = [lm.encode(pair) for pair in texts]
    return [ScoreRequest.of([*lm.start, *context], continuation) for context, continuation in encoded]


def refusal(connect: Served, habits: Habits, **options: Any) -> str:
    with pytest.raises(IclEvalError) as caught:
        connect(habits, **options)
    assert re.match(r"http://127\.0\.0\.1:\d+/v1.*$", str(caught.value))  # one line that begins with the server
    return str(caught.value).split("/v1", 1)[-1]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_log_probabilities_of_the_model(form: str, served_as: Any, local: LanguageModel) -> None:
    served, _ = served_as(form)
    expected = Engine(local).answer(requests(local))
    found = Engine(served).answer(requests(served))

    assert f"|{form}|" in served.fingerprint
    assert served.precision == f"served:{form}"
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert one.greedy is other.greedy


NEXT = [("Tom has a cat", option) for option in ("s", ".", "Z", "'s")]


@pytest.mark.parametrize(
    ("habits", "prompts"),
    [
        (Habits(chosen=True), 1),  # the option of two tokens
        (Habits(top=100), None),  # that option, and those that are not among the most likely
        (Habits(top=20), 4),  # too few to be of use
        (Habits(), 4),
    ],
)
def test_options_of_one_token_cost_one_generated_token(
    habits: Habits, prompts: int | None, folder: Path, start: Any, local: LanguageModel
) -> None:
    url, server = start(habits)
    served = load_model(url, tokenizer=str(folder))
    before = len(server.requests)
    expected = Engine(local).answer(requests(local, NEXT))

    found = Engine(served).answer(requests(served, NEXT))

    bodies = server.requests[before:]
    assert [each.logprobs for each in found] == [pytest.approx(each.logprobs, abs=1e-5) for each in expected]
    assert [each.greedy for each in found] == [each.greedy for each in expected]
    if prompts is None:
        ranks = rank_of(local, NEXT)
        prompts = sum(rank >= 100 for rank in ranks)
        assert 1 < prompts < 4
    assert sum("prompt_logprobs" in body for body in bodies) == prompts
    assert len(bodies) == prompts + (prompts < 4)


def rank_of(lm: LanguageModel, texts: list[tuple[str, str]]) -> list[int]:
    """How many tokens are more likely than each option; more than any for an option of several tokens."""
    row = np.array([answer.logprobs[0] for answer in Engine(lm).answer(every_next(lm, texts[0][0]))])
    encoded = [lm.encode([option])[0] for _, option in texts]
    return [int((row > row[ids[0]]).sum()) if len(ids) == 1 else len(row) for ids in encoded]


def every_next(lm: Any, context: str) -> list[ScoreRequest]:
    (ids,) = lm.encode([context])
    return [ScoreRequest.of([*lm.start, *ids], [token]) for token in range(lm.vocabulary)]


@pytest.fixture(scope="module")
def likely(folder: Path) -> tuple[str, str]:
    """A text and the sign that its model expects most after it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for text in map("Tom has {} cats".format, range(1000)):
        with torch.inference_mode():
            token = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].argmax()
        if "!" <= (sign := str(tokenizer.decode([int(token)]))) <= "~":
            return text, sign
    raise AssertionError("it expects no sign of ASCII anywhere")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_knows_the_most_likely_tokens(form: str, likely: tuple[str, str], served_as: Any) -> None:
    text, sign = likely
    served, _ = served_as(form)
    found = Engine(served).answer(requests(served, [(text, sign), (text, chr(ord(sign) ^ 1)), (text, f"{sign} ")]))

    assert [answer.greedy for answer in found] == [True, False, False]


def test_a_served_model_keeps_the_protocol(connect: Served) -> None:
    lm = connect(Habits())

    assert lm.can_generate
    assert not lm.measures_noise
    assert (lm.name, lm.precision, lm.kind) == (NAME, "served:prompt_logprobs-ids", "causal")
    assert lm.decode(lm.encode(["ab"])[0]) == ["a", "b"]


@pytest.fixture(scope="module")
def with_bos(folder: Path) -> LanguageModel:
    """The model itself, with BOS before every text."""
    return load_model(str(folder), device="cpu", bos=True)


@pytest.mark.parametrize("hides_bos", [False, True])
@pytest.mark.parametrize(("ids", "adds_bos"), [(True, False), (False, False), (False, True)])
def test_bos_is_read_once_whoever_puts_it(
    adds_bos: bool, hides_bos: bool, ids: bool, connect: Served, with_bos: LanguageModel
) -> None:
    served = connect(Habits(listed=False, ids=ids, adds_bos=adds_bos, hides_bos=hides_bos), bos=True)
    expected = Engine(with_bos).answer(requests(with_bos))
    found = Engine(served).answer(requests(served))

    assert [each.logprobs for each in found] == [pytest.approx(each.logprobs, abs=1e-5) for each in expected]


def test_a_bos_that_only_the_server_puts_is_reported(connect: Served) -> None:
    message = refusal(connect, Habits(listed=False, ids=False, adds_bos=True))

    assert message == " adds a token before every text; pass --bos yes to add it here, too"


@pytest.mark.parametrize("ids", [False, True])
def test_log_probabilities_of_another_position_are_detected(ids: bool, connect: Served) -> None:
    message = refusal(connect, Habits(listed=False, ids=ids, shifts=True))

    assert (
        "it shifts the log-probabilities of a prompt; llama-cpp-python does this if the prompt does not begin with a"
        in message
    )


NEITHER = "the server's answer has no `prompt_logprobs`; the server's answer has no `logprobs`"


@pytest.mark.parametrize(
    ("habits", "missing"),
    [
        (Habits(listed=False, echoes=False), NEITHER),
        (Habits(always=(200, {}, b'{"choices": [{"text": ""}], "usage": {"prompt_tokens": 36}}')), NEITHER),
        (Habits(always=(200, {}, b"[]")), "the server's answer has no `choices`"),
        (Habits(always=failing(400, "completions are gone")), "completions are gone"),
        (
            Habits(listed=False, names=False),
            "the server returns log-probabilities of the prompt's tokens, but not of the most likely ones",
        ),
        (
            Habits(listed=False, ids=False, counts=False),
            "the server takes only text, and does not report in `usage` how many tokens it read",
        ),
    ],
)
def test_a_server_without_what_is_needed_is_reported(habits: Habits, missing: str, connect: Served) -> None:
    message = refusal(connect, habits)

    assert message.startswith(" returns no log-probabilities of a prompt: ")
    assert missing in message


@pytest.mark.parametrize("listed", [False, True])
def test_a_wrong_number_of_tokens_is_no_answer(listed: bool, connect: Served) -> None:
    message = refusal(connect, Habits(listed=listed, echoes=not listed, lost=2))

    assert "tokens" in message


def test_another_tokenizer_is_found_out_by_the_number_of_tokens(connect: Served, tmp_path: Path) -> None:
    from icl_eval.models.loading.checkpoint import TINY_PATH

    message = refusal(connect, Habits(listed=False, ids=False), tokenizer=str(TINY_PATH))

    assert message.endswith("--tokenizer belongs to another model")


def test_tokens_that_no_text_has_are_refused(connect: Served) -> None:
    served = connect(Habits(listed=False, ids=False))
    half = served.encode(["ü"])[0][:1]

    with pytest.raises(ModelError, match="is encoded to other tokens"):
        Engine(served).answer([ScoreRequest.of(served.encode(["a"])[0], half)])


@pytest.mark.parametrize("ids", [True, False])
def test_a_server_that_takes_only_text_finds_control_tokens_in_records(ids: bool, connect: Served) -> None:
    served = connect(Habits(listed=False, ids=ids))
    controls, unmarked = served.controls, set[str]()
    (encoded,) = served.encode([controls.mark("a</s>", unmarked)])
    ((answer,),) = [Engine(served).answer([ScoreRequest.of(encoded[:1], encoded[1:])])]

    assert unmarked == (set() if ids else {"</s>"})
    assert len(answer.logprobs) == (len("</s>") if ids else 1)


def test_a_text_that_is_encoded_differently_is_refused(connect: Served, folder: Path, start: Any) -> None:
    url, server = start(Habits(listed=False, ids=False))
    served = load_model(url, tokenizer=str(folder))
    real = server.tokens
    server.tokens = lambda prompt: real(prompt.replace("cat", "dog"))

    with pytest.raises(ModelError, match=r"token 11 of a prompt is 'd' at the server, but 'c' was sent"):
        Engine(served).answer([ScoreRequest.of(*served.encode(["Tom has a", " cat"]))])


def test_requests_go_in_the_order_of_their_tokens(start: Any, folder: Path) -> None:
    url, server = start(Habits())
    served = load_model(url, tokenizer=str(folder), concurrency=1)
    before = len(server.requests)
    built = requests(served, [("b", "a"), ("a", "b"), ("b", "b"), ("a", "a")])
    Engine(served).answer(built)

    assert [body["prompt"] for body in server.requests[before:]] == sorted(list(each.tokens) for each in built)


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"max_model_len": 300}, 298),
        ({"meta": {"n_ctx_train": 200}}, 198),
        ({"meta": {"n_ctx": 90, "n_ctx_train": 200}}, 88),
    ],
)
def test_the_window_is_what_the_server_says_less_what_a_request_takes(
    entry: dict[str, Any], window: int, connect: Served
) -> None:
    assert connect(Habits(models=[{"id": NAME, **entry}])).window == window
    assert connect(Habits(models=[{"id": NAME, **entry}]), max_length=50).window == 50


def test_a_window_beyond_the_servers_is_refused(connect: Served) -> None:
    assert "but that of the endpoint is 512" in refusal(connect, Habits(), max_length=511)


def test_an_unknown_window_must_be_given(connect: Served) -> None:
    silent = Habits(models=[{"id": NAME}])

    assert refusal(connect, silent).endswith("gives the context length; pass --max-length")
    assert connect(silent, max_length=64).window == 64


def test_a_name_is_looked_up_at_the_endpoint(connect: Served) -> None:
    two = Habits(models=[{"id": "other", "max_model_len": 99}, {"id": NAME, "max_model_len": 77}])

    assert connect(two).name == "other"
    assert (connect(two, served_name=NAME).name, connect(two, served_name=NAME).window) == (NAME, 75)
    with pytest.raises(UnknownName, match=r"no model of http.* is named 'tiny-servd'; did you mean tiny-served\?"):
        connect(two, served_name="tiny-servd")


def test_an_endpoint_without_models_is_reported(connect: Served) -> None:
    assert refusal(connect, Habits(models=[])) == "/models lists no models"


def test_the_fingerprint_names_no_host(connect: Served) -> None:
    prints = {connect(Habits()).fingerprint for _ in range(2)}  # on two ports

    assert len(prints) == 1
    assert "127.0.0.1" not in prints.pop()


def test_other_names_forms_and_beginnings_have_other_fingerprints(connect: Served) -> None:
    other = Habits(models=[{"id": "other", "max_model_len": 512}])
    prints = [connect(Habits()), connect(Habits(listed=False)), connect(Habits(), bos=True), connect(other)]

    assert len({each.fingerprint for each in prints}) == 4


@pytest.mark.parametrize("form", FORMS)
def test_greedy_texts_are_those_of_the_model_itself(form: str, served_as: Any, local: LanguageModel) -> None:
    served, _ = served_as(form)
    generations = [
        GenerateRequest.of(local.encode([text])[0], Decoding(12, stop=stop))
        for text, stop in [("Tom has a", ()), ("Tom has a", ("q", "1")), ("Ann has 12", ("\n",))]
    ]
    expected, found = Engine(local).answer(generations), Engine(served).answer(generations)
    last = "end" if FORMS[form].listed else "stop"  # the last text ends with a token that only one server tells of

    assert [each.texts for each in found] == [each.texts for each in expected]
    assert [each.scores for each in found[:2]] == [pytest.approx(each.scores, abs=1e-4) for each in expected[:2]]
    assert [each.finished for each in expected][2] == ("end",)
    assert [each.finished for each in found] == [*(each.finished for each in expected[:2]), (last,)]


def test_a_stop_cuts_the_text_even_where_the_server_leaves_it(connect: Served, start: Any, folder: Path) -> None:
    url, server = start(Habits())
    served = load_model(url, tokenizer=str(folder))
    real = server.completion
    server.completion = lambda body: real({**body, "stop": []})
    (prompt,) = served.encode(["Tom has a"])
    (whole,) = Engine(served).answer([GenerateRequest.of(prompt, Decoding(8, stop=()))])
    stop = whole.texts[0][3:5]
    (cut,) = Engine(served).answer([GenerateRequest.of(prompt, Decoding(8, stop=(stop,)))])

    assert cut.texts == (whole.texts[0].split(stop)[0],)
    assert cut.finished == ("stop",)


def test_a_sample_does_not_depend_on_how_many_are_drawn(connect: Served) -> None:
    served = connect(Habits())
    (prompt,) = served.encode(["Tom has a"])

    def drawn(count: int, seed: int = 0) -> GenerateAnswer:
        decoding = Decoding(6, stop=(), samples=count, temperature=1.0, seed=seed)
        (answer,) = Engine(served).answer([GenerateRequest.of(prompt, decoding)])
        return answer

    assert drawn(4).texts[:2] == drawn(2).texts
    assert len(set(drawn(4).texts)) == 4
    assert drawn(2, seed=1).texts != drawn(2).texts


def test_sampling_and_greedy_search_say_how(start: Any, folder: Path) -> None:
    url, server = start(Habits())
    served = load_model(url, tokenizer=str(folder))
    (prompt,) = served.encode(["Tom"])
    Engine(served).answer([GenerateRequest.of(prompt, Decoding(2, temperature=0.7, top_p=0.9))])
    Engine(served).answer([GenerateRequest.of(prompt, Decoding(2, stop=()))])
    sampled, greedy = server.requests[-2:]

    assert (sampled["temperature"], sampled["top_p"], sampled["stop"]) == (0.7, 0.9, ["\n"])
    assert greedy["temperature"] == 0
    assert not {"seed", "top_p", "stop"} & set(greedy)


def test_beam_search_is_refused(connect: Served) -> None:
    served = connect(Habits())

    with pytest.raises(ModelError, match="an endpoint has no beam search, but 4 beams are requested"):
        Engine(served).answer([GenerateRequest.of(served.encode(["a"])[0], Decoding(2, beams=4))])


def test_a_text_cut_by_a_filter_is_refused(connect: Served, start: Any, folder: Path) -> None:
    url, server = start(Habits())
    served = load_model(url, tokenizer=str(folder))
    real = server.write
    server.write = lambda *arguments: (real(*arguments)[0], "content_filter")

    with pytest.raises(ModelError, match="unknown `finish_reason` 'content_filter'"):
        Engine(served).answer([GenerateRequest.of(served.encode(["a"])[0], Decoding(2))])


def test_a_server_that_fails_at_first_gets_the_same_form(connect: Served) -> None:
    troubled = Habits(first=deque([failing(500), failing(500)]))

    assert connect(troubled).fingerprint == connect(Habits()).fingerprint


def test_a_server_that_refuses_the_key_is_not_tried_in_other_forms(start: Any, folder: Path) -> None:
    url, server = start(Habits(always=failing(401, "who are you?")))

    with pytest.raises(ModelError, match="answers 401: who are you"):
        load_model(url, tokenizer=str(folder))
    assert len(server.requests) == 1


@pytest.mark.parametrize("variable", ["ICL_EVAL_API_KEY", "OPENAI_API_KEY"])
def test_the_key_comes_from_the_environment(
    variable: str, start: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ICL_EVAL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "sekret-2")
    url, server = start(Habits())
    load_model(url, tokenizer=str(folder))

    assert server.keys == {"Bearer sekret-2"}


@pytest.mark.parametrize("url", ["http://me:pass@localhost/v1", "http://localhost/v1?key=pass"])
def test_a_url_with_a_secret_is_refused(url: str, folder: Path) -> None:
    with pytest.raises(ModelError, match="put the API key into the environment variable ICL_EVAL_API_KEY") as caught:
        load_model(url, tokenizer=str(folder))
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tokenizer": None}, "an endpoint needs --tokenizer, "),
        ({"tokenizer": "./nowhere"}, "nowhere: there is no such tokenizer directory"),
        ({"dtype": "float16"}, "`dtype` has no effect on a served model"),
        ({"device": "cpu"}, "`device` has no effect on a served model"),
        ({"concurrency": 0}, "`concurrency` cannot be 0: "),
        ({"timeout": 0}, "`timeout` cannot be 0: "),
    ],
)
def test_options_that_do_not_fit_an_endpoint(options: dict[str, Any], sentence: str, folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("http://localhost:1/v1", **{"tokenizer": str(folder), **options})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("options", [{"served_name": "x"}, {"concurrency": 2}, {"timeout": 1}, {"retries": 0}])
def test_options_of_an_endpoint_do_not_fit_a_checkpoint(options: dict[str, Any], folder: Path) -> None:
    with pytest.raises(ModelError, match="has no effect on a model that is not served"):
        load_model(str(folder), **options)


def test_a_tokenizer_is_taken_where_a_checkpoint_has_none(folder: Path, tmp_path: Path) -> None:
    (bare := tmp_path / "bare").mkdir()
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(bare)
    byte_tokenizer().save_pretrained(words := tmp_path / "words")
    lm = load_model(str(bare), device="cpu", tokenizer=str(words))
    other = load_model(str(bare), device="cpu", tokenizer=str(checkpoint(tmp_path / "other")))

    assert Engine(lm).answer(requests(lm)) == Engine(other).answer(requests(other))
    assert lm.fingerprint == other.fingerprint  # the same tokens
    assert lm.fingerprint != load_model(str(folder), device="cpu").fingerprint


@pytest.mark.parametrize("form", ["prompt_logprobs-ids", "echo-ids"])
def test_a_server_that_does_not_count_tokens_gives_the_same_answers(form: str, connect: Served, served_as: Any) -> None:
    plain, silent = served_as(form)[0], connect(replace(FORMS[form], counts=False))
    scored = requests(plain)[:2]
    written = [GenerateRequest.of(plain.encode(["Tom has a"])[0], Decoding(4, stop=()))]

    assert Engine(silent).answer(scored) == Engine(plain).answer(scored)
    assert Engine(silent).answer(written) == Engine(plain).answer(written)


@pytest.mark.parametrize("value", [0.5, "-1", True, None, -math.inf, math.nan, -(10**400)])
def test_a_log_probability_that_is_none_is_the_servers_fault(
    value: Any, served_as: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, server = served_as("prompt_logprobs-ids")
    real = server.entry
    monkeypatch.setattr(server, "entry", lambda row, token: real(row, token) | {str(token): {"logprob": value}})

    with pytest.raises(
        ModelError, match=r"^http://127\.0\.0\.1:\d+/v1: the server returns .* for a log-probability that is needed$"
    ):
        Engine(served).answer(requests(served)[:1])


@pytest.mark.parametrize("form", FORMS)
def test_what_a_server_does_to_probabilities_by_itself_is_switched_off(form: str, served_as: Any) -> None:
    served, server = served_as(form)
    before = len(server.requests)
    Engine(served).answer(requests(served)[:1])
    Engine(served).answer([GenerateRequest.of(served.encode(["a"])[0], Decoding(2))])
    neutral = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}

    for body in server.requests[before:]:
        assert {name: body[name] for name in neutral if name in body} == ({} if "strict" in form else neutral)


def test_a_broken_server_is_given_up_after_its_retries(start: Any, folder: Path, monkeypatch: Any) -> None:
    wait_for_nothing(monkeypatch)
    url, server = start(Habits(always=failing(500, "out of order")))

    with pytest.raises(ModelError, match=f"^{url}/completions answers 500: out of order; tried 4 times$"):
        load_model(url, tokenizer=str(folder), retries=3)
    assert len(server.requests) == 1 + 4


@pytest.mark.parametrize("listed", [5, [5], [{"id": 5}], [{"id": ["a"]}], {"a": 1}, None])
def test_a_list_of_models_that_is_none_is_reported(listed: Any, connect: Served) -> None:
    assert refusal(connect, Habits(models=listed)) == "/models lists no models"
