"""Built-in conversions of data sets to flat records, for layouts that a field mapping cannot express."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from icl_eval.tasks.adapters.multiple_choice import arc, hellaswag, race, sat, winograd, winogrande
from icl_eval.tasks.adapters.questions import coqa, drop, quac, squad, triviaqa, truthfulqa
from icl_eval.tasks.adapters.reasoning import bbh, math
from icl_eval.tasks.adapters.superglue import multirc, record, wsc
from icl_eval.tasks.adapters.texts import agnews, articles, flores, last_word, one_document, translation
from icl_eval.tasks.files import Record

Adapter = Callable[[Iterable[Record]], Iterator[dict[str, Any]]]

ADAPTERS: Mapping[str, Adapter] = {
    "agnews": agnews,
    "arc": arc,
    "articles": articles,
    "bbh": bbh,
    "coqa": coqa,
    "drop": drop,
    "flores": flores,
    "hellaswag": hellaswag,
    "last_word": last_word,
    "math": math,
    "multirc": multirc,
    "one_document": one_document,
    "quac": quac,
    "race": race,
    "record": record,
    "sat": sat,
    "squad": squad,
    "translation": translation,
    "triviaqa": triviaqa,
    "truthfulqa": truthfulqa,
    "winograd": winograd,
    "winogrande": winogrande,
    "wsc": wsc,
}
