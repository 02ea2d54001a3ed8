from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from icl_eval import Task
from icl_eval.models import ControlTokens, LanguageModel, about_control_tokens, load_model
from icl_eval.models.tokenization import line_encoder
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder

from .checkpoints import byte_tokenizer, checkpoint

FAST: Any = PreTrainedTokenizerFast


def byte_level() -> Any:
    return byte_tokenizer(additional_special_tokens=["<end>"])


def unigram() -> Any:
    """As T5 has it: the control tokens are entries of the vocabulary, which a text could be made of."""
    letters = [(char, -2.0) for char in "▁<>/sendabuk "]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("<end>", 0.0), *letters], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return FAST(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", additional_special_tokens=["<end>"])


def word_piece() -> Any:
    pieces = ["[UNK]", "[", "unk", "]", "<end>", "</s>", "<", ">", "/", "end", "a", "b", "s"]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return FAST(tokenizer_object=tokenizer, eos_token="</s>", unk_token="[UNK]", additional_special_tokens=["<end>"])


def in_python() -> Any:
    return ByT5Tokenizer(additional_special_tokens=["<end>"], extra_ids=0)


def encoder_of(tokenizer: Any) -> tuple[ControlTokens, Callable[[list[str]], list[list[int]]]]:
    controls = ControlTokens(tokenizer)
    return controls, line_encoder(tokenizer, controls)


@pytest.mark.parametrize("kind", [byte_level, unigram, word_piece, in_python])
def test_a_control_token_is_one_where_a_prompt_writes_it_and_text_where_a_record_does(kind: Callable[[], Any]) -> None:
    tokenizer = kind()
    controls, encode = encoder_of(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<end>")
    record = controls.mark({"q": "a<end>", "more": ["<end>", 1]})
    (found,) = encode([f"<end>{record['q']}b<end>"])

    assert controls.unmarkable == set()
    assert (found[0], found[-1], found.count(end)) == (end, end, 2)
    assert tokenizer.decode(found[1:-1]).replace(" ", "") == "a<end>b"
    assert encode(["a<end>"]) == [tokenizer("a<end>", add_special_tokens=False)["input_ids"]]
    assert end not in encode(record["more"][:1])[0]
    assert [controls.unmark(record["q"]), record["more"][1]] == ["a<end>", 1]


@pytest.mark.parametrize("kind", [byte_level, unigram, word_piece, in_python])
def test_a_text_with_marks_is_encoded_as_one_without_but_for_the_names(kind: Callable[[], Any]) -> None:
    tokenizer = kind()
    controls, encode = encoder_of(tokenizer)
    frame = "</s>a b <end> a\n b</s> {}"
    end, (marked, plain) = (
        tokenizer.convert_tokens_to_ids("<end>"),
        encode([frame.format(controls.mark("<end>")), frame.format("")]),
    )

    assert plain == tokenizer(frame.format(""), add_special_tokens=False)["input_ids"]
    assert marked[: len(plain) - 1] == plain[:-1]
    assert marked.count(end) == 1


def test_names_of_one_character_overlapping_names_and_other_letter_case_stay_text() -> None:
    tokenizer = byte_tokenizer(additional_special_tokens=["※", "<a>b<", "<END>"])
    controls, encode = encoder_of(tokenizer)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("※", "<a>b<", "<END>", "<s>")}
    (spelled,) = encode([controls.mark("※<a>b<s>") + controls.mark("<end>").upper()])

    assert not set(spelled) & set(ids.values())
    assert tokenizer.decode(spelled) == "※<a>b<s><END>"
    assert encode(["※" + controls.mark("※")])[0][0] == ids["※"]


def test_a_token_that_a_chat_template_writes_is_a_control_token_and_a_run_of_spaces_is_none() -> None:
    tokenizer = byte_tokenizer(chat_template="{% if x %}<think>{% endif %}    ")
    tokenizer.add_tokens([AddedToken(name, special=False) for name in ("<think>", "    ", "<b>")])
    controls, encode = encoder_of(tokenizer)
    think, spaces, bold = (tokenizer.convert_tokens_to_ids(name) for name in ("<think>", "    ", "<b>"))

    (found,) = encode([controls.mark("<think>    <b>")])
    assert (found.count(think), found.count(spaces), found.count(bold)) == (0, 1, 1)
    assert encode(["<think>"]) == [[think]]


@pytest.mark.parametrize("text", ["a\ufdd0b", "\ufdd0</s>", "\ufdd0\ufdd0</s>\ufdd0"])
def test_the_mark_itself_in_a_record_is_text(text: str) -> None:
    tokenizer = byte_level()
    controls, encode = encoder_of(tokenizer)

    assert controls.unmark(controls.mark(text)) == text
    assert tokenizer.decode(encode([controls.mark(text)])[0]) == text
    assert encode([controls.mark(text) + "</s>"])[0][-1] == 1


def test_a_record_without_control_tokens_is_left_as_it_is() -> None:
    assert ControlTokens(byte_level()).mark("a < b and <endless") == "a < b and <endless"
    assert ControlTokens().mark({"q": ["</s>\ufdd0"]}) == {"q": ["</s>\ufdd0"]}
    assert ControlTokens().unmark("</s>\ufdd0") == "</s>\ufdd0"


def merged() -> Any:
    """A tokenizer that makes one of its control tokens of letters, and needs another for the bytes of its name."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "</s>", *alphabet, "eo", "eos"]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("e", "o"), ("eo", "s")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return FAST(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", additional_special_tokens=["eos", "§"])


def test_a_name_that_no_text_spells_stays_a_control_token_and_is_reported() -> None:
    tokenizer = merged()
    controls, encode = encoder_of(tokenizer)
    unmarked: set[str] = set()
    marked = controls.mark("§eos</s>", unmarked)

    assert unmarked == {"eos", "§"}
    assert encode([marked])[0][:2] == tokenizer("§eos", add_special_tokens=False)["input_ids"]
    assert tokenizer.eos_token_id not in encode([marked])[0]
    assert about_control_tokens(unmarked) == (
        "records contain eos, §, which this model reads as control tokens, not as text"
    )
    assert about_control_tokens(["§"]) == "records contain §, which this model reads as a control token, not as text"
    assert about_control_tokens([]) == ""


def test_a_prompt_that_begins_with_bos_gets_no_second_one_and_records_write_no_control_tokens(tmp_path: Path) -> None:
    lm = load_model(str(checkpoint(tmp_path / "llama", adds_bos=True)), device="cpu")
    task = Task.from_records(
        "t",
        evaluation=[{"q": "b</s>", "choices": ["yes</s>", "no"], "gold": 0}],
        options="choices",
        gold="gold",
        prompt="{% block query %}<s>{{ q }}</s>{% endblock %}",
    )
    assert task.source is not None
    (prepared,) = prepare(task, None, RunConfig(model="m", tasks=("t",), shots=(0,)), task.source)
    questioner = RequestBuilder(prepared, lm, "error")
    (question,) = questioner.queries()
    tokens = list(question.conditional[0].tokens)

    assert tokens[0] == 0
    assert tokens.count(0) == 1
    assert tokens.count(1) == 1
    assert tokens == [0, *lm.encode(["b"])[0], *_spelt(lm), 1, *lm.encode([" yes"])[0], *_spelt(lm)]
    assert (question.text.queries[0], question.text.answers[0]) == ("<s>b</s></s>", " yes</s>")
    assert questioner.control_names == set()


def _spelt(lm: LanguageModel) -> list[int]:
    return [token for char in "</s>" for token in lm.encode([char])[0]]
