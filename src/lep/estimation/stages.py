"""What each room takes: from its settings and what is known of its inputs to the formulas of `lep.estimation.costs`.

Each function also notes the shape of what its room will make, for the rooms after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from lep.config import (
    Advise,
    Calibrate,
    Collect,
    Evaluate,
    Initialize,
    Pretrain,
    Propagate,
    Report,
    Retokenize,
    Tune,
    Tuning,
)
from lep.distributed import micro_batches
from lep.errors import DataError
from lep.estimation.costs import (
    PRETRAINING_USED,
    TUNING_USED,
    Cost,
    Training,
    Weights,
    initialization_cost,
    propagation_cost,
    reading_seconds,
    rewritten_bytes,
    training_cost,
    writing_seconds,
)
from lep.estimation.hardware import Machine
from lep.estimation.inputs import Known, rows_of, size_of
from lep.estimation.meta_model import Sketch, kept_bytes, sketched_operations, weigh
from lep.modeling.saving import let_parts_learn
from lep.modeling.trainable_layers import let_layers_learn

_COLLECT_RATE = {False: 6.9e6, True: 2.7e6}
"""Bytes of text a second, where languages are not told apart and where they are (benchmarks/collect.py)."""
_KEPT_DOCUMENT, _DOCUMENT = 1200, 2000
"""Bytes of memory for a kept document, and of text in one."""
_CHARACTER = 2
"""Bytes of a character, at the most where a script is not that of China, Japan or Korea."""
_RETOKENIZE_RATE = {"extended": 4.3e6, "optimized": 3.4e6, "bpe": 2.6e6, "unigram": 2.6e6}
"""Bytes of text a second (docs/vocabularies.md, a gigabyte of text)."""
_RETOKENIZE_MEMORY = 3.5e9
_PACK_RATE = 1.5e6
"""Tokens of text that are packed a second, by two processors (benchmarks/packing.py)."""
_SIZE_UNKNOWN = 32_000
"""New tokens where only symbols per token are wished for."""
_TOKEN = 4
"""Bytes of text in a token."""
_PROMPT, _SENTENCE, _ARTICLE = 60, 100, 2000
"""Tokens of a prompt, and of the two kinds of copy tasks, both times that the text stands there."""
_CONVERSATIONS, _CONVERSATION = 10_000, 500
"""Where nobody here knows how many there are; and tokens of one."""
_LONGEST = 3
"""The longest conversation, over the mean."""
_ANSWERED, _ANSWER = 32, 24
"""Items that are answered at once, and tokens of the longest answer among them."""
_LOADING = 1e9
"""Bytes a second when a model is loaded."""
_RUNNING = 1.5
"""Memory of a model that reads and writes, over that of its weights."""


def _collect(settings: Collect, out: Path, known: Known) -> Cost:
    seconds, read = 0.0, 0
    for source in settings.sources.values():
        most = source.maximum_characters and _CHARACTER * source.maximum_characters
        if not source.files and not most:
            raise DataError(f"how large {source.dataset} is, is not known here; maximum_characters would bound it")
        size = min(size_of(source.files), most or sys.maxsize) if source.files else most or 0
        read += size
        seconds += size / _COLLECT_RATE[source.language is not None]
    known.texts[out] = read
    assumes = (f"documents of {_DOCUMENT:,} bytes; memory is for telling near duplicates",)
    return Cost(seconds, 2e8 + read / _DOCUMENT * _KEPT_DOCUMENT, read, assumes=assumes)


def _retokenize(settings: Retokenize, out: Path, known: Known) -> Cost:
    base, kind = known.vocabulary(settings.base), settings.kind
    kept = (settings.kept_tokens or base // 2) if kind == "optimized" else base
    more, assumes = settings.new_tokens, ()
    if settings.symbols_per_token:
        more = _SIZE_UNKNOWN
        assumes = (f"{settings.symbols_per_token} symbols per token take {_SIZE_UNKNOWN:,} tokens",)
    if settings.pieces:
        more = known.vocabulary(settings.pieces)
    known.vocabularies[out] = settings.vocabulary_size or kept + (more or 0)
    read = known.text(settings.corpus)
    return Cost(10 + read / _RETOKENIZE_RATE[kind], min(_RETOKENIZE_MEMORY, 7e8 + 3 * read), 10**7, assumes=assumes)


def _initialize(settings: Initialize, out: Path, known: Known) -> Cost:
    base, tokens = known.model(settings.base), known.vocabulary(settings.tokenizer)
    made = Sketch(base.folder, tokens + -tokens % settings.pad_to_multiple)
    known.models[out] = made
    known.fresh[out] = 1 - base.rows / made.rows if made.rows > base.rows else 1.0
    written = rewritten_bytes(_weights(made), itemsize=2, layers=False)
    return initialization_cost(tokens=base.rows + tokens, written=written)


def _pretrain(settings: Pretrain, out: Path, known: Known) -> Cost:
    sketch = known.models[out] = known.model(settings.model)
    machine, twice = known.machine, settings.gradient_checkpointing
    _check_batch(settings, machine)
    model = sketch.on_meta(dtype=settings.dtype, fused=machine.accelerated)
    model.requires_grad_(False)
    let_layers_learn(model, settings.learn, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha)
    weights = weigh(model)
    learn = known.fresh.get(settings.model, 1.0) if settings.learn == "new_rows" else 1.0
    tokens = settings.steps * settings.batch_size * settings.block
    training = Training(
        tokens=tokens,
        operations=sketched_operations(model, weights, learn=learn, block=settings.block, twice=twice),
        kept=kept_bytes(
            model, samples=settings.micro_batch_size, block=settings.block, dtype=settings.dtype, twice=twice
        ),
        tables=weights.tables * learn,
        used=PRETRAINING_USED[machine.accelerated],
        sharded=settings.parallel == "fsdp2",
        samples_bytes=4 * tokens,
    )
    cost = _trained(model, weights, training, known, layers=settings.learn not in ("embeddings", "new_rows"))
    measured = (settings.evaluations + 1) * len(settings.mixture) * settings.evaluation_characters // 2
    more = tokens / _PACK_RATE + reading_seconds(weights, tokens=measured, machine=machine)
    return replace(cost, seconds=cost.seconds + more)


def _tune(settings: Tune, out: Path, known: Known) -> Cost:
    sources = settings.data.values() if isinstance(settings.data, dict) else [settings.data]
    rows, tokens, assumes = 0, 0, []
    for source in sources:
        try:
            rows += rows_of(source)
            tokens += size_of([source] if isinstance(source, Path) else source.files or []) // _TOKEN
        except DataError as error:
            rows, tokens = rows + _CONVERSATIONS, tokens + _CONVERSATIONS * _CONVERSATION
            assumes.append(f"{error}: counted with {_CONVERSATIONS:,} conversations of {_CONVERSATION} tokens")
    longest = settings.maximum_length if assumes else _LONGEST * tokens // rows
    return replace(_tuned(settings, out, known, tokens=tokens, longest=longest), assumes=tuple(assumes))


def _calibrate(settings: Calibrate, out: Path, known: Known) -> Cost:
    count, assumes = settings.prompts_limit or _CONVERSATIONS, []
    try:
        count = min(rows_of(settings.prompts), settings.prompts_limit or sys.maxsize)
    except DataError as error:
        assumes.append(f"{error}: counted with {count:,} prompts")
    one = _PROMPT + settings.answer_tokens // 2
    learnt = _tuned(settings, out, known, tokens=count * one, longest=2 * _PROMPT + settings.answer_tokens)
    if not isinstance(settings.teacher, Path):
        return replace(learnt, assumes=(*assumes, "the teacher is served elsewhere: its time is not counted"))
    if settings.judge != "rules":
        assumes.append("the judge's time is not counted")
    teacher, batch = known.model(settings.teacher), settings.answer_batch
    steps = -(-count * settings.candidates // batch) * settings.answer_tokens
    seconds = _writing(teacher, known, steps=steps, batch=batch)
    return replace(learnt, seconds=learnt.seconds + seconds, assumes=tuple(assumes))


def _tuned(settings: Tuning, out: Path, known: Known, *, tokens: int, longest: int) -> Cost:
    """A training of `epochs` over conversations of so many tokens, the longest of `longest`, and over copy tasks."""
    sketch = known.models[out] = known.model(settings.model)
    _check_batch(settings, known.machine)
    model = sketch.on_meta(dtype=settings.dtype, fused=known.machine.accelerated)
    let_parts_learn(model, settings)
    weights, twice = weigh(model), settings.gradient_checkpointing
    if settings.copies:
        tokens += settings.copies.count * (_SENTENCE + min(settings.maximum_length, _ARTICLE)) // 2
        longest = max(longest, _ARTICLE)
    block = settings.maximum_length if settings.packing else min(settings.maximum_length, longest)
    tables = {"frozen": 0, "head": 1, "both": weights.tables}[settings.tables]
    training = Training(
        tokens=round(tokens * settings.epochs),
        operations=sketched_operations(model, weights, learn=float(min(tables, 1)), block=block // 2, twice=twice),
        kept=kept_bytes(model, samples=settings.micro_batch_size, block=block, dtype=settings.dtype, twice=twice),
        tables=float(tables),
        used=TUNING_USED[known.machine.accelerated],
        sharded=settings.parallel == "fsdp2",
    )
    return _trained(model, weights, training, known, layers=True)


def _check_batch(settings: Pretrain | Tuning, machine: Machine) -> None:
    """`UsageError` when the processes cannot share a step."""
    micro_batches(batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size, processes=machine.devices)


def _trained(model: PreTrainedModel, weights: Weights, training: Training, known: Known, *, layers: bool) -> Cost:
    written = rewritten_bytes(weights, itemsize=2, layers=layers)
    return training_cost(weights, training, machine=known.machine, itemsize=2, written=written)


def _propagate(settings: Propagate, out: Path, known: Known) -> Cost:
    base, adapted = known.model(settings.base), known.model(settings.adapted)
    instruct = known.model(settings.instruct)
    known.models[out] = Sketch(instruct.folder, adapted.rows)
    weights, theirs = _weights(known.models[out]), _weights(base)
    written = rewritten_bytes(weights, itemsize=2, layers=bool(settings.layers_scale))
    return propagation_cost(
        rows=adapted.rows,
        dim=weights.table // adapted.rows,
        tables=weights.tables,
        fits={"swap": 0, "auto": 2}.get(settings.method, 1),
        tokens=base.rows + adapted.rows + instruct.rows,
        hashed=2 * 2 * theirs.all,
        written=written,
        device=settings.device if torch.cuda.is_available() else "cpu",
    )


def _evaluate(settings: Evaluate, out: Path, known: Known) -> Cost:
    machine, seconds, largest = known.machine, 0.0, 0
    tokens = len(settings.models) * settings.characters  # in two languages, of two characters each
    batches = -(-rows_of(settings.skills) // _ANSWERED) if settings.skills else 0
    for path in settings.models.values():
        sketch = known.model(path)
        weights = _weights(sketch)
        seconds += 2 * weights.all / _LOADING + reading_seconds(weights, tokens=settings.characters, machine=machine)
        seconds += _writing(sketch, known, steps=batches * _ANSWER, batch=_ANSWERED)
        largest = max(largest, weights.all)
    left = [name for name in ("benchmark", "efficiency", "side_effects") if getattr(settings, name, None)]
    held = _RUNNING * 2 * largest
    return Cost(
        seconds,
        1e9 + held,
        10**6,
        device_bytes=held if machine.accelerated else 0.0,
        devices=1 if machine.accelerated else 0,
        tokens=tokens,
        assumes=(f"{', '.join(left)}: not counted",) if left else (),
    )


def _writing(sketch: Sketch, known: Known, *, steps: int, batch: int) -> float:
    weights, layers = _weights(sketch), _layers(sketch)
    return writing_seconds(weights, layers=layers, steps=steps, batch=batch, machine=known.machine, itemsize=2)


def _advise(settings: Advise, out: Path, known: Known) -> Cost:
    return Cost(20 + known.text(settings.corpus) / _RETOKENIZE_RATE[settings.kind], _RETOKENIZE_MEMORY, 10**5)


def _report(settings: Report, out: Path, known: Known) -> Cost:
    return Cost(5.0, 5e8, 10**6)


@cache
def _weights(sketch: Sketch) -> Weights:
    model = sketch.on_meta(dtype="bfloat16", fused=True)
    return weigh(model.requires_grad_(False))


@cache
def _layers(sketch: Sketch) -> int:
    config: Any = sketch.on_meta(dtype="bfloat16", fused=True).config.get_text_config()
    return config.num_hidden_layers


ROOM_COSTS: Mapping[str, Callable[[Any, Path, Known], Cost]] = {
    "collect": _collect,
    "advise": _advise,
    "retokenize": _retokenize,
    "initialize": _initialize,
    "pretrain": _pretrain,
    "tune": _tune,
    "propagate": _propagate,
    "calibrate": _calibrate,
    "evaluate": _evaluate,
    "report": _report,
}
