"""Private and undocumented hooks of libraries that lep overrides or calls: they exist, and take what lep passes.

A minor release of a library may rename or drop one of them, and nothing else would fail: an override would no longer
be called. Whoever overrides or calls another hook adds it here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose
from torch import nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from transformers import (
    Gemma3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    TextStreamer,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.liger import apply_liger_kernel
from transformers.trainer_callback import CallbackHandler
from trl.data_utils import pack_dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from lep.modeling.streaming import _CallbackStreamer
from lep.training.callbacks import TrainingMonitor
from lep.training.checkpoints import TrainedWeightsMixin
from lep.training.finetuning import _FSDP_TRAINERS, _TRAINERS, _FinetuningMixin
from lep.training.fsdp_trainer import FSDPTrainerMixin
from lep.training.pretraining import FSDPPretrainingTrainer, PretrainingTrainer

TRAINERS = (Trainer, SFTTrainer, DPOTrainer, KTOTrainer)
OVERRIDES: list[tuple[type, str, tuple[type, ...]]] = [
    (TrainedWeightsMixin, "_save", TRAINERS),
    (TrainedWeightsMixin, "_load_from_checkpoint", TRAINERS),
    (FSDPTrainerMixin, "_save_optimizer_and_scheduler", TRAINERS),
    (FSDPTrainerMixin, "_load_optimizer_and_scheduler", TRAINERS),
    (FSDPTrainerMixin, "_defer_fsdp_gradient_reduction", TRAINERS),
    (_FinetuningMixin, "_send_telemetry", (SFTTrainer, DPOTrainer, KTOTrainer)),
    (_FinetuningMixin, "create_model_card", (SFTTrainer, DPOTrainer, KTOTrainer)),
    (_FinetuningMixin, "compute_ref_log_probs", (DPOTrainer, KTOTrainer)),
    (TrainingMonitor, "on_train_begin", (TrainerCallback,)),
    (TrainingMonitor, "on_step_begin", (TrainerCallback,)),
    (TrainingMonitor, "on_step_end", (TrainerCallback,)),
    (TrainingMonitor, "on_log", (TrainerCallback,)),
    (_CallbackStreamer, "put", (TextStreamer,)),
    (_CallbackStreamer, "on_finalized_text", (TextStreamer,)),
]


def parameter_names(function: Callable[..., Any]) -> list[str]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind not in variadic]


def takes_anything(function: Callable[..., Any]) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


@pytest.mark.parametrize(
    ("override", "name", "base"), [(owner, name, base) for owner, name, bases in OVERRIDES for base in bases]
)
def test_an_overridden_hook_exists_with_the_same_parameters(override: type, name: str, base: type) -> None:
    assert hasattr(base, name), f"{base.__name__} has no {name} any more"
    ours, theirs = getattr(override, name), getattr(base, name)
    if not takes_anything(ours):
        assert parameter_names(ours) == parameter_names(theirs)


@pytest.mark.parametrize(
    "hook",
    [
        "_save",
        "_load_from_checkpoint",
        "_save_optimizer_and_scheduler",
        "_load_optimizer_and_scheduler",
        "_defer_fsdp_gradient_reduction",
        "is_distributed_loading_by_transformers",
    ],
)
def test_the_trainer_still_uses_its_hooks(hook: str) -> None:
    assert f"self.{hook}" in inspect.getsource(Trainer).replace(f"def {hook}", "")


@pytest.mark.parametrize("base", [SFTTrainer, DPOTrainer, KTOTrainer])
def test_trl_trainers_replace_no_hook_of_the_trainer(base: type) -> None:
    hooks = [name for owner, name, _ in OVERRIDES if owner in (TrainedWeightsMixin, FSDPTrainerMixin)]
    assert all(getattr(base, name) is getattr(Trainer, name) for name in hooks)


def test_the_mixins_come_before_the_trainers() -> None:
    for trainer in (PretrainingTrainer, *_TRAINERS.values()):
        assert trainer._save is TrainedWeightsMixin._save and issubclass(trainer, Trainer)
        assert trainer._load_from_checkpoint is TrainedWeightsMixin._load_from_checkpoint
    for trainer in (FSDPPretrainingTrainer, *_FSDP_TRAINERS.values()):
        assert trainer._save is TrainedWeightsMixin._save and issubclass(trainer, Trainer)
        assert trainer._load_optimizer_and_scheduler is FSDPTrainerMixin._load_optimizer_and_scheduler


@pytest.mark.parametrize("arguments_class", [TrainingArguments, SFTConfig, DPOConfig, KTOConfig])
def test_one_process_uses_at_most_one_gpu(arguments_class: type[TrainingArguments], tmp_path: Path) -> None:
    arguments = arguments_class(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    assert hasattr(arguments, "_n_gpu")
    arguments._n_gpu = 3
    assert arguments.n_gpu == 3
    if arguments_class is not TrainingArguments:
        assert hasattr(arguments, "activation_checkpointing")


def test_the_trainer_keeps_the_best_step_in_its_state() -> None:
    state = TrainerState()
    assert state.best_metric is None and not state.best_global_step and state.best_model_checkpoint is None
    assert parameter_names(CallbackHandler.on_log)[1:5] == ["args", "state", "control", "logs"]


def test_the_trainer_reads_the_loss_type_of_a_model_that_is_not_its_own() -> None:
    """`TrainableEmbeddings.loss_type`: the first token of a sample is not counted."""
    source = inspect.getsource(Trainer)
    assert '"loss_type"' in source and "ForCausalLM" in source


def test_hooks_of_a_pretrained_model() -> None:
    assert parameter_names(LlamaForCausalLM._supports_logits_to_keep) == ["self"]
    assert hasattr(PreTrainedModel, "activation_checkpointing_enable") and hasattr(PreTrainedModel, "tie_weights")
    assert parameter_names(apply_liger_kernel) == ["model", "kernel_config"]
    config = Gemma3ForCausalLM.config_class(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, head_dim=8
    )
    embedding: Any = Gemma3ForCausalLM(config).get_input_embeddings()
    assert embedding.scalar_embed_scale == pytest.approx(8**0.5)


@pytest.fixture
def dora_layer() -> Any:
    config = LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = LlamaForCausalLM(config)
    inject_adapter_in_model(LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]), model, adapter_name="default")
    return next(module for module in model.modules() if isinstance(module, LoraLayer))


def test_hooks_of_peft(dora_layer: Any) -> None:
    assert parameter_names(inject_adapter_in_model)[:3] == ["peft_config", "model", "adapter_name"]
    assert parameter_names(dora_layer.get_delta_weight) == ["adapter"]
    assert dora_layer.cast_input_dtype_enabled is True and dora_layer.fan_in_fan_out is False
    assert dora_layer.get_base_layer().weight.shape == (8, 8)
    assert torch.equal(transpose(torch.ones(2, 3), True), torch.ones(3, 2))


def test_peft_computes_dora_row_norms_by_a_method_that_can_be_replaced(dora_layer: Any) -> None:
    dora = dict(dora_layer.lora_magnitude_vector.items())["default"]
    assert parameter_names(dora.get_weight_norm)[:3] == ["weight", "lora_weight", "scaling"]
    calls: list[float] = []

    def norm(weight: torch.Tensor, lora_weight: torch.Tensor, scaling: float, **_: object) -> torch.Tensor:
        calls.append(scaling)
        return torch.ones(8)

    dora.get_weight_norm = norm
    dora_layer(torch.ones(1, 8))
    assert calls


def test_hooks_of_trl() -> None:
    assert {"pad_token_id", "return_position_ids"} <= set(parameter_names(DataCollatorForLanguageModeling))
    assert parameter_names(pack_dataset)[:3] == ["dataset", "seq_length", "strategy"]
    assert {"dataset_kwargs", "max_length"} <= set(parameter_names(SFTConfig))
    for config in (DPOConfig, KTOConfig):
        assert {"beta", "precompute_ref_log_probs", "max_length"} <= set(parameter_names(config))
    for trainer in (DPOTrainer, KTOTrainer):
        assert "self.compute_ref_log_probs(" in inspect.getsource(trainer)


def test_hooks_of_torch() -> None:
    tensor = torch.zeros(4)
    assert tensor.untyped_storage()._cdata == tensor[1:].untyped_storage()._cdata
    assert tensor.untyped_storage()._cdata != torch.zeros(4).untyped_storage()._cdata
    module = nn.Linear(2, 2)
    assert set(module._parameters) == {"weight", "bias"} and module._buffers == {}
    assert parameter_names(register_fsdp_forward_method) == ["module", "method_name"]
    assert hasattr(FSDPModule, "unshard") and hasattr(FSDPModule, "reshard")
    assert torch.OutOfMemoryError is torch.cuda.OutOfMemoryError
    with torch.compiler.set_stance("force_eager"):
        assert torch.compile(module)(torch.ones(2)).shape == (2,)


def test_hooks_of_lm_eval() -> None:
    from lm_eval.api.model import CacheHook
    from lm_eval.api.samplers import ContextSampler
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    from lep.evaluation.darumeru.last_logits import LastLogitsHFLM
    from lep.evaluation.darumeru.lm_eval_models import _ProgressHook

    lm: Any = HFLM
    assert parameter_names(lm._loglikelihood_tokens)[:2] == ["self", "requests"]
    assert parameter_names(lm._model_call)[:2] == ["self", "inps"]
    assert {"pretrained", "tokenizer", "batch_size", "softmax_dtype"} <= set(parameter_names(lm.__init__))
    for name in ("_loglikelihood_tokens", "_model_call"):
        assert f"self.{name}(" in "".join(inspect.getsource(owner) for owner in lm.__mro__[:-1])
        assert getattr(LastLogitsHFLM, name) is not getattr(lm, name)
    assert parameter_names(_ProgressHook.add_partial) == parameter_names(CacheHook.add_partial)
    assert hasattr(lm, "set_cache_hook") and "disable_tqdm" in parameter_names(lm.loglikelihood)
    assert hasattr(ConfigurableTask, "set_config") and hasattr(ContextSampler, "replace_df")
    assert {"doc", "num_fewshot"} <= set(parameter_names(ConfigurableTask.fewshot_context))


def test_a_last_logits_model_falls_back_where_logits_cannot_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.models.huggingface import HFLM

    from lep.evaluation.darumeru.last_logits import LastLogitsHFLM

    monkeypatch.setattr(HFLM, "_model_call", lambda self, inps: "all logits")
    lm: Any = object.__new__(LastLogitsHFLM)
    lm._model = SimpleNamespace(_supports_logits_to_keep=lambda: False)
    assert lm._model_call(torch.zeros(1, 2, dtype=torch.int64)) == "all logits"
