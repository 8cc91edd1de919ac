"""Cost of each stage, from its settings and the shapes of its inputs, by the formulas of `lep.estimation.costs`.

Each function `estimate_<stage>(settings, inputs)` also returns the shape of the stage's result, for the stages after
it, and raises a `LepError` if the shape or the size of an input is not known.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch

from lep.config import (
    AdviseSettings,
    CalibrateSettings,
    CollectSettings,
    EvaluateSettings,
    FinetuningSettings,
    InitializeSettings,
    PretrainSettings,
    PropagateSettings,
    ReportSettings,
    RetokenizeSettings,
    TuneSettings,
)
from lep.core.propagation import METHODS
from lep.distributed import gradient_accumulation_steps
from lep.errors import DataError
from lep.estimation.costs import (
    FINETUNING_MFU,
    PRETRAINING_MFU,
    ParameterCounts,
    StageCost,
    TrainingWorkload,
    compute_rewritten_bytes,
    estimate_decode_seconds,
    estimate_initialization_cost,
    estimate_prefill_seconds,
    estimate_propagation_cost,
    estimate_training_cost,
)
from lep.estimation.hardware import Machine
from lep.estimation.inputs import InputInfo, OutputInfo, compute_text_bytes, count_rows
from lep.estimation.meta_model import MetaModel, compute_activation_bytes, count_parameters, estimate_flops_per_token
from lep.modeling.trainable_layers import TrainableLayers

_COLLECT_BYTES_PER_SECOND = {False: 6.9e6, True: 2.7e6}
"""Speed without and with language identification (benchmarks/collect.py)."""
_MEMORY_BYTES_PER_DOCUMENT, _TEXT_BYTES_PER_DOCUMENT = 1200, 2000
"""Memory of a kept document for deduplication, and its text."""
_MAX_BYTES_PER_CHARACTER = 2
"""In UTF-8, for every script but those of China, Japan and Korea."""
_RETOKENIZE_BYTES_PER_SECOND = {"extended": 4.3e6, "optimized": 3.4e6, "bpe": 2.6e6, "unigram": 2.6e6}
"""Measured on a gigabyte of text (docs/vocabularies.md)."""
_RETOKENIZE_MEMORY_BYTES = 3.5e9
_PACKED_TOKENS_PER_SECOND = 1.5e6
"""Speed of tokenization and packing with two processes (benchmarks/packing.py)."""
_DEFAULT_NEW_TOKENS = 32_000
"""Assumed vocabulary growth where only characters per token are given."""
_TEXT_BYTES_PER_TOKEN = 4
_TOKENS_PER_PROMPT, _TOKENS_PER_SENTENCE_COPY, _TOKENS_PER_ARTICLE_COPY = 60, 100, 2000
"""Tokens of a prompt, and of the two kinds of copy tasks, original and copy together."""
_DEFAULT_CONVERSATION_COUNT, _TOKENS_PER_CONVERSATION = 10_000, 500
"""Assumed for data sets of unknown size."""
_LONGEST_TO_MEAN_RATIO = 3
"""Length of the longest conversation over the mean."""
_GENERATION_BATCH_SIZE, _MAX_ANSWER_TOKENS = 32, 24
"""Items in a batch of `evaluate`, and tokens of the longest answer in it."""
_LOAD_BYTES_PER_SECOND = 1e9
_INFERENCE_MEMORY_FACTOR = 1.5
"""Memory for inference over that of the weights."""
_ITEMSIZE = 2
"""Bytes of a weight in bfloat16."""


@dataclass(frozen=True)
class StageEstimate:
    """What a stage takes, and the shape of its result."""

    cost: StageCost
    output: OutputInfo = field(default_factory=OutputInfo)


def estimate_collect(settings: CollectSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `collect`; `DataError`: the size of a source is not known."""
    seconds, total_bytes = 0.0, 0
    for source in settings.sources.values():
        max_bytes = source.max_characters and _MAX_BYTES_PER_CHARACTER * source.max_characters
        if not source.files and not max_bytes:
            raise DataError(f"the size of {source.dataset} is not known; set max_characters to bound it")
        size = min(compute_text_bytes(source.files), max_bytes or sys.maxsize) if source.files else max_bytes or 0
        total_bytes += size
        seconds += size / _COLLECT_BYTES_PER_SECOND[source.language is not None]
    memory = 2e8 + total_bytes / _TEXT_BYTES_PER_DOCUMENT * _MEMORY_BYTES_PER_DOCUMENT
    assumption = f"documents of {_TEXT_BYTES_PER_DOCUMENT:,} bytes; deduplication needs most of the memory"
    cost = StageCost(seconds, memory, total_bytes, assumptions=(assumption,))
    return StageEstimate(cost, OutputInfo(text_bytes=total_bytes))


def estimate_advise(settings: AdviseSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `advise`."""
    seconds = 20 + inputs.get_text_bytes(settings.corpus) / _RETOKENIZE_BYTES_PER_SECOND[settings.kind]
    return StageEstimate(StageCost(seconds, _RETOKENIZE_MEMORY_BYTES, 10**5))


def estimate_retokenize(settings: RetokenizeSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `retokenize`."""
    base_size, kind = inputs.get_vocabulary_size(settings.base), settings.kind
    kept = (settings.kept_tokens or base_size // 2) if kind == "optimized" else base_size
    new_tokens, assumptions = settings.new_tokens or 0, ()
    if settings.characters_per_token:
        new_tokens = _DEFAULT_NEW_TOKENS
        assumptions = (f"{settings.characters_per_token} characters per token need {new_tokens:,} new tokens",)
    if settings.import_tokens_from:
        new_tokens = inputs.get_vocabulary_size(settings.import_tokens_from)
    text_bytes = inputs.get_text_bytes(settings.corpus)
    cost = StageCost(
        10 + text_bytes / _RETOKENIZE_BYTES_PER_SECOND[kind],
        min(_RETOKENIZE_MEMORY_BYTES, 7e8 + 3 * text_bytes),
        10**7,
        assumptions=assumptions,
    )
    return StageEstimate(cost, OutputInfo(vocabulary_size=settings.vocab_size or kept + new_tokens))


def estimate_initialize(settings: InitializeSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `initialize`."""
    base, tokens = inputs.get_meta_model(settings.base), inputs.get_vocabulary_size(settings.tokenizer)
    result = MetaModel(base.folder, tokens + -tokens % settings.pad_to_multiple_of)
    new_row_fraction = 1 - base.vocab_size / result.vocab_size if result.vocab_size > base.vocab_size else 1.0
    output_bytes = compute_rewritten_bytes(_count_parameters(result), itemsize=_ITEMSIZE, include_layers=False)
    cost = estimate_initialization_cost(tokens=base.vocab_size + tokens, output_bytes=output_bytes)
    return StageEstimate(cost, OutputInfo(meta_model=result, new_row_fraction=new_row_fraction))


def estimate_pretrain(settings: PretrainSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `pretrain`."""
    meta_model = inputs.get_meta_model(settings.model)
    machine, checkpointing = inputs.machine, settings.gradient_checkpointing
    _check_batch_size(settings, machine)
    layers = TrainableLayers.from_setting(
        settings.trainable, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha
    )
    model = meta_model.build(dtype=settings.dtype, fused_attention=machine.has_accelerator, layers=layers)
    trains_new_rows = settings.trainable == "new_tokens"
    row_fraction = inputs.get_output(settings.model).new_row_fraction if trains_new_rows else 1.0
    model = replace(model, trainable_head_size=round(row_fraction * model.head_size))
    parameters = count_parameters(model)
    tokens = settings.steps * settings.batch_size * settings.sequence_length
    workload = TrainingWorkload(
        tokens=tokens,
        flops_per_token=estimate_flops_per_token(
            model, sequence_length=settings.sequence_length, gradient_checkpointing=checkpointing
        ),
        activation_bytes=compute_activation_bytes(
            model,
            batch_size=settings.micro_batch_size,
            sequence_length=settings.sequence_length,
            dtype=settings.dtype,
            gradient_checkpointing=checkpointing,
        ),
        trainable_embedding_count=parameters.num_embedding_matrices * row_fraction,
        mfu=PRETRAINING_MFU[machine.has_accelerator],
        sharded=settings.parallel == "fsdp2",
        dataset_bytes=4 * tokens,
    )
    cost = _estimate_training(parameters, workload, machine, include_layers=layers.layers != "none")
    validation_characters = (settings.num_evaluations + 1) * len(settings.mixture) * settings.evaluation_characters
    prefill_seconds = estimate_prefill_seconds(parameters, tokens=validation_characters // 2, machine=machine)
    cost = replace(cost, seconds=cost.seconds + (tokens / _PACKED_TOKENS_PER_SECOND + prefill_seconds))
    return StageEstimate(cost, OutputInfo(meta_model=meta_model))


def estimate_tune(settings: TuneSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `tune`."""
    sources = settings.data.values() if isinstance(settings.data, dict) else [settings.data]
    rows, tokens, assumptions = 0, 0, []
    for source in sources:
        try:
            rows += count_rows(source)
            files = [source] if isinstance(source, Path) else source.files or []
            tokens += compute_text_bytes(files) // _TEXT_BYTES_PER_TOKEN
        except DataError as error:
            rows += _DEFAULT_CONVERSATION_COUNT
            tokens += _DEFAULT_CONVERSATION_COUNT * _TOKENS_PER_CONVERSATION
            assumptions.append(
                f"{error}: assumed {_DEFAULT_CONVERSATION_COUNT:,} conversations of {_TOKENS_PER_CONVERSATION} tokens"
            )
    longest = settings.max_length if assumptions else _LONGEST_TO_MEAN_RATIO * tokens // rows
    cost = _estimate_finetuning(settings, inputs, tokens=tokens, max_conversation_tokens=longest)
    output = OutputInfo(meta_model=inputs.get_meta_model(settings.model))
    return StageEstimate(replace(cost, assumptions=tuple(assumptions)), output)


def estimate_propagate(settings: PropagateSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `propagate`."""
    base = inputs.get_meta_model(settings.base)
    adapted = inputs.get_meta_model(settings.adapted, adapter_base=settings.adapter_base)
    instruct = inputs.get_meta_model(settings.instruct, adapter_base=settings.base)
    result = MetaModel(instruct.folder, adapted.vocab_size)
    parameters = _count_parameters(result)
    fitted_methods = [method for method in METHODS if method != "swap"]
    cost = estimate_propagation_cost(
        vocab_size=adapted.vocab_size,
        dim=parameters.embedding // adapted.vocab_size,
        num_embedding_matrices=parameters.num_embedding_matrices,
        fitted_method_count={"swap": 0, "auto": len(fitted_methods)}.get(settings.method, 1),
        tokens=base.vocab_size + adapted.vocab_size + instruct.vocab_size,
        input_bytes=2 * _ITEMSIZE * _count_parameters(base).total,
        output_bytes=compute_rewritten_bytes(
            parameters, itemsize=_ITEMSIZE, include_layers=bool(settings.layers_scale)
        ),
        device=settings.device if torch.cuda.is_available() else "cpu",
    )
    return StageEstimate(cost, OutputInfo(meta_model=result))


def estimate_calibrate(settings: CalibrateSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `calibrate`."""
    prompts, assumptions = settings.max_prompts or _DEFAULT_CONVERSATION_COUNT, []
    try:
        prompts = min(count_rows(settings.prompts), settings.max_prompts or sys.maxsize)
    except DataError as error:
        assumptions.append(f"{error}: assumed {prompts:,} prompts")
    output = OutputInfo(meta_model=inputs.get_meta_model(settings.model))
    cost = _estimate_finetuning(
        settings,
        inputs,
        tokens=prompts * (_TOKENS_PER_PROMPT + settings.max_new_tokens // 2),
        max_conversation_tokens=2 * _TOKENS_PER_PROMPT + settings.max_new_tokens,
    )
    if not isinstance(settings.teacher, Path):
        assumptions.append("the time of the served teacher is not included")
        return StageEstimate(replace(cost, assumptions=tuple(assumptions)), output)
    if settings.judge != "rules":
        assumptions.append("the time of the judge is not included")
    batch_size = settings.generation_batch_size
    steps = -(-prompts * settings.num_candidates // batch_size) * settings.max_new_tokens
    teacher = inputs.get_meta_model(settings.teacher)
    seconds = _estimate_generation_seconds(teacher, inputs, steps=steps, batch_size=batch_size)
    return StageEstimate(replace(cost, seconds=cost.seconds + seconds, assumptions=tuple(assumptions)), output)


def estimate_evaluate(settings: EvaluateSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `evaluate`."""
    machine, seconds, largest = inputs.machine, 0.0, 0
    # texts in two languages, at two characters per token
    tokens_per_model = settings.heldout_characters
    batches = -(-count_rows(settings.skills) // _GENERATION_BATCH_SIZE) if settings.skills else 0
    for path in settings.models.values():
        meta_model = inputs.get_meta_model(path)
        parameters = _count_parameters(meta_model)
        seconds += _ITEMSIZE * parameters.total / _LOAD_BYTES_PER_SECOND + estimate_prefill_seconds(
            parameters, tokens=tokens_per_model, machine=machine
        )
        seconds += _estimate_generation_seconds(
            meta_model, inputs, steps=batches * _MAX_ANSWER_TOKENS, batch_size=_GENERATION_BATCH_SIZE
        )
        largest = max(largest, parameters.total)
    omitted = [name for name in ("benchmark", "efficiency", "side_effects") if getattr(settings, name, None)]
    model_memory = _INFERENCE_MEMORY_FACTOR * _ITEMSIZE * largest
    cost = StageCost(
        seconds,
        1e9 + model_memory,
        10**6,
        device_memory_bytes=model_memory if machine.has_accelerator else 0.0,
        device_count=1 if machine.has_accelerator else 0,
        tokens=len(settings.models) * tokens_per_model,
        assumptions=(f"{', '.join(omitted)}: not included",) if omitted else (),
    )
    return StageEstimate(cost)


def estimate_report(settings: ReportSettings, inputs: InputInfo) -> StageEstimate:
    """Estimate `report`."""
    return StageEstimate(StageCost(5.0, 5e8, 10**6))


def _estimate_finetuning(
    settings: FinetuningSettings, inputs: InputInfo, *, tokens: int, max_conversation_tokens: int
) -> StageCost:
    """Estimate a training of `epochs` on conversations with `tokens` tokens in total, and on copy tasks."""
    machine, checkpointing = inputs.machine, settings.gradient_checkpointing
    _check_batch_size(settings, machine)
    model = inputs.get_meta_model(settings.model).build(
        dtype=settings.dtype,
        fused_attention=machine.has_accelerator,
        embeddings=settings.trainable_embeddings,
        layers=TrainableLayers(settings.trainable_layers, settings.adapter, settings.lora_rank, settings.lora_alpha),
    )
    if copy_tasks := settings.copy_tasks:
        article_tokens = min(settings.max_length, _TOKENS_PER_ARTICLE_COPY)
        tokens += copy_tasks.count * (_TOKENS_PER_SENTENCE_COPY + article_tokens) // 2
        max_conversation_tokens = max(max_conversation_tokens, _TOKENS_PER_ARTICLE_COPY)
    length = settings.max_length if settings.packing else min(settings.max_length, max_conversation_tokens)
    workload = TrainingWorkload(
        tokens=round(tokens * settings.epochs),
        flops_per_token=estimate_flops_per_token(
            model, sequence_length=length // 2, gradient_checkpointing=checkpointing
        ),
        activation_bytes=compute_activation_bytes(
            model,
            batch_size=settings.micro_batch_size,
            sequence_length=length,
            dtype=settings.dtype,
            gradient_checkpointing=checkpointing,
        ),
        trainable_embedding_count=float(len(model.embeddings)),
        mfu=FINETUNING_MFU[machine.has_accelerator],
        sharded=settings.parallel == "fsdp2",
    )
    return _estimate_training(count_parameters(model), workload, machine, include_layers=True)


def _check_batch_size(settings: PretrainSettings | FinetuningSettings, machine: Machine) -> None:
    """Raise `UsageError` if the batch size is not a multiple of micro batch size × processes."""
    gradient_accumulation_steps(
        batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size, world_size=machine.device_count
    )


def _estimate_training(
    parameters: ParameterCounts, workload: TrainingWorkload, machine: Machine, *, include_layers: bool
) -> StageCost:
    output_bytes = compute_rewritten_bytes(parameters, itemsize=_ITEMSIZE, include_layers=include_layers)
    return estimate_training_cost(parameters, workload, machine=machine, itemsize=_ITEMSIZE, output_bytes=output_bytes)


def _estimate_generation_seconds(meta_model: MetaModel, inputs: InputInfo, *, steps: int, batch_size: int) -> float:
    return estimate_decode_seconds(
        _count_parameters(meta_model),
        layer_count=_count_layers(meta_model),
        steps=steps,
        batch_size=batch_size,
        machine=inputs.machine,
        itemsize=_ITEMSIZE,
    )


@cache
def _count_parameters(meta_model: MetaModel) -> ParameterCounts:
    return count_parameters(meta_model.build(dtype="bfloat16", fused_attention=True))


@cache
def _count_layers(meta_model: MetaModel) -> int:
    return len(meta_model.build(dtype="bfloat16", fused_attention=True).decoder_layers)
