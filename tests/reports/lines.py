"""Score lines and a manifest made by hand, so that what is printed is known."""

from __future__ import annotations

import math
from dataclasses import replace

from icl_eval.results.manifest import Manifest
from icl_eval.results.records import TaskRecord
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import Score

RTE = Score(
    task="superglue/rte",
    prompt="gpt3",
    metric="accuracy",
    normalization="token",
    shots=0,
    seeds=(0,),
    draw="per_example",
    data="local",
    value=0.5632,
    standard_error=0.0299,
    low=0.5046,
    high=0.6218,
    interval="normal",
    examples=277,
    total_examples=277,
    units=277,
    clusters=277,
    seed_values=(0.5632,),
    seed_sd=None,
    effective_shots=0.0,
    shortened=0,
    truncated=0,
    ties=0,
    random=0.5,
    majority=0.527,
    reference="gpt3:RTE",
    signature="superglue/rte|gpt3|k0|per_example|s0|token|bos0|float32|local|v1#a91f0c3e|icl-eval 0.1.0",
)
RTE_32 = replace(
    RTE,
    shots=32,
    seeds=(0, 1, 2, 3, 4),
    seed_values=(0.57, 0.58, 0.56, 0.59, 0.60),
    value=0.58,
    seed_sd=0.0158,
    effective_shots=31.24,
    shortened=1007,
    truncated=2,
    ties=3,
    close_calls=4,
    noise_low=0.5784,
    noise_high=0.5808,
    signature="superglue/rte|gpt3|k32|per_example|s0-4|token|bos0|float32|local|v1#a91f0c3e+5d2c771b|icl-eval 0.1.0",
)
UNKNOWN = replace(RTE, task="own", reference=None, standard_error=math.nan, low=-math.inf, high=math.inf, random=None)
AVERAGE = replace(
    RTE,
    task="superglue",
    metric="average",
    majority=None,
    reference="gpt3:SuperGLUE",
    average="macro",
    averaged="accuracy of superglue/boolq, superglue/rte; mean of accuracy and macro_f1 of superglue/cb",
    signature="superglue|macro mean of 8 tasks|k0|s0|local|#0123abcd|icl-eval 0.1.0",
)

RECORD = TaskRecord(
    task="superglue/rte",
    prompt="gpt3",
    selection="",
    metrics=("accuracy",),
    primary=("accuracy",),
    normalization="token",
    draw="per_example",
    separator="\n\n",
    shots=(0, 32),
    seeds=(0, 1, 2, 3, 4),
    reference="gpt3:RTE",
    version=1,
    digest="a91f0c3e",
    pool="5d2c771b",
    data="local",
    examples=277,
    total_examples=277,
    head=False,
)
MANIFEST = Manifest(
    config=RunConfig(model="small", tasks=("superglue/rte",), shots=(0, 32), seeds=(0, 1, 2, 3, 4), data="data"),
    note=None,
    model_name="small",
    model_fingerprint="f1",
    model_words="bos0|w2048|float32",
    window=2048,
    noise=3e-6,
    tasks=(RECORD,),
    suites=(),
    versions={},
    device="cpu",
    threads=1,
    started="2020-01-01T00:00:00+00:00",
)
