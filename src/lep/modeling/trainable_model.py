"""What is trained of a model, as a value that is made once and asked afterwards.

A `TrainableModel` is built before the optimizer and before any sharding. Pre-training, fine-tuning, calibration, saving
and estimation take it; nothing else looks at `requires_grad`. It keeps names, not parameters: sharding replaces those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from lep.modeling.flops import attention_flops_per_token, count_active_parameters
from lep.modeling.sharding import forward_unsharded, full_tensor_on_main, gather_parameters, local_shard, shard_model
from lep.modeling.trainable_embeddings import SplitEmbedding, TrainableEmbeddings
from lep.modeling.trainable_layers import (
    TrainableLayers,
    WeightUpdate,
    compute_weight_updates,
    decoder_layers,
    get_embedding_parameter_ids,
    set_trainable_layers,
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, eq=False)
class TrainableModel:
    """A causal language model and what is trained of it.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=40, hidden_size=8, intermediate_size=16, num_attention_heads=2)
        >>> model = TrainableModel.with_whole_embeddings(LlamaForCausalLM(config), "head", TrainableLayers())
        >>> list(model.parameters)
        ['head.weight']
    """

    causal_lm: PreTrainedModel
    module: nn.Module
    """What the Trainer calls: `causal_lm`, or the module around it that computes its loss."""
    embeddings: Mapping[str, nn.Module]
    """The trained embeddings: `embed`, and `head` where it is another matrix."""
    embedding_parameters: Mapping[str, tuple[str, ...]]
    """By kind of rows (`new`, `old`), names such as `embed.new`. A matrix that is trained as a whole is `new`."""
    layer_names: tuple[str, ...]
    """Trained parameters of `causal_lm` that are not embeddings: weights, or the factors of adapters."""
    head_size: int
    """Numbers of the output embeddings."""
    trainable_head_size: int
    """Of those, the trained ones."""

    @classmethod
    def with_split_embeddings(
        cls, causal_lm: PreTrainedModel, layers: TrainableLayers, *, new_ids: Int[Tensor, " new"], train_old_rows: bool
    ) -> TrainableModel:
        """Make both embedding matrices trainable, new and old rows as parameters of their own (pre-training).

        Args:
            causal_lm: The model, changed in place; everything else is frozen.
            layers: Which layers are trained, and how.
            new_ids: Ids of the rows with the learning rate of new tokens.
            train_old_rows: Otherwise the other rows cost no gradient, no optimizer state and no float32 copy.

        Returns:
            The model and what is trained of it.

        Raises:
            CheckpointError: The model's embeddings are more than two matrices.
        """
        module = TrainableEmbeddings(causal_lm, new_ids=new_ids, train_old_rows=train_old_rows)
        set_trainable_layers(causal_lm, layers)
        head = module.head
        return cls(
            causal_lm,
            module,
            module.embeddings,
            {
                part: tuple(f"{name}.{part}" for name, matrix in module.embeddings.items() if part in matrix.trained)
                for part in ("new", "old")
            },
            _find_trained_layer_names(causal_lm),
            head_size=head.weight.numel(),
            trainable_head_size=sum(head.get_parameter(part).numel() for part in head.trained),
        )

    @classmethod
    def with_whole_embeddings(
        cls, causal_lm: PreTrainedModel, embeddings: Literal["none", "head", "both"], layers: TrainableLayers
    ) -> TrainableModel:
        """Make the selected embedding matrices trainable, in float32, each as one parameter (fine-tuning).

        Args:
            causal_lm: The model, changed in place; everything else is frozen. It may be on the `meta` device.
            embeddings: Which matrices; one that is both is trained with `head` and with `both`.
            layers: Which layers are trained, and how.

        Returns:
            The model and what is trained of it.
        """
        dtype, modules = causal_lm.dtype, _get_embedding_modules(causal_lm)
        tied = modules["embed"].weight is modules["head"].weight
        names = {"none": (), "head": ("embed",) if tied else ("head",), "both": ("embed",) if tied else tuple(modules)}
        trained = {name: modules[name] for name in names[embeddings]}
        causal_lm.requires_grad_(False)
        for module in trained.values():
            module.weight.data = module.weight.data.float()
            module.weight.requires_grad_()
        if modules["embed"].weight.dtype != dtype:  # the layers compute as they will with the rounded matrix
            modules["embed"].register_forward_hook(lambda _, __, hidden: hidden.to(dtype))
        set_trainable_layers(causal_lm, layers)
        size = modules["head"].weight.numel()
        return cls(
            causal_lm,
            causal_lm,
            trained,
            {"new": tuple(f"{name}.weight" for name in trained), "old": ()},
            _find_trained_layer_names(causal_lm),
            head_size=size,
            trainable_head_size=size if trained else 0,
        )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name: embeddings first."""
        names = (*self.embedding_parameters["new"], *self.embedding_parameters["old"])
        return {name: self._get_embedding_parameter(name) for name in names} | self.layer_parameters

    @property
    def layer_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained apart from the embeddings, by its name in `causal_lm`."""
        return {name: self.causal_lm.get_parameter(name) for name in self.layer_names}

    @cached_property
    def decoder_layers(self) -> nn.ModuleList:
        """The layers of the decoder, first to last."""
        return decoder_layers(self.causal_lm)

    @property
    def is_sharded(self) -> bool:
        """Whether `shard` divided the model among processes."""
        return isinstance(self.module, FSDPModule)

    def optimizer_groups(
        self, *, learning_rate: float, old_token_learning_rate: float, layer_learning_rate: float
    ) -> list[dict[str, Any]]:
        """Return the parameter groups of an optimizer; norms and biases get no weight decay.

        Args:
            learning_rate: Of new rows, and of embeddings that are trained as a whole.
            old_token_learning_rate: Of old rows.
            layer_learning_rate: Of weights and adapters of the layers.

        Returns:
            Groups as `torch.optim` takes them, without empty ones.
        """
        new, old = ([*map(self._get_embedding_parameter, self.embedding_parameters[part])] for part in ("new", "old"))
        layers = list(self.layer_parameters.values())
        groups: list[dict[str, Any]] = [
            {"params": new, "lr": learning_rate},
            {"params": old, "lr": old_token_learning_rate},
            {"params": [weight for weight in layers if weight.ndim > 1], "lr": layer_learning_rate},
            {
                "params": [weight for weight in layers if weight.ndim == 1],
                "lr": layer_learning_rate,
                "weight_decay": 0.0,
            },
        ]
        return [group for group in groups if group["params"]]

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is trained, as tensors that are whole in the main process and `meta` elsewhere."""
        return {name: full_tensor_on_main(weight.detach()).contiguous() for name, weight in self.parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned; a missing tensor is a `KeyError`."""
        for name, weight in self.parameters.items():
            weight.copy_(local_shard(state_dict[name], like=weight))

    def flops_per_token(self, *, sequence_length: int) -> float:
        """Return the FLOPs per token of a training step; arXiv 2204.02311, appendix B.

        Each weight is in up to three matrix products of 2 operations: the forward one, the one with its transpose,
        which anything trained before it needs (the input embeddings come first), and its own gradient, if it is
        trained. Rows that are only looked up, of tokens and of positions, do not count.
        """
        trained = {id(weight) for weight in self.layer_parameters.values()}
        products = 3 * self.trainable_head_size + 2 * (self.head_size - self.trainable_head_size)
        for weight, size in self._active_layer_parameters():
            products += (3 if id(weight) in trained else 2) * size
        config = self.causal_lm.config.get_text_config()
        return 2.0 * products + 3 * attention_flops_per_token(config, sequence_length=sequence_length)

    def count_active_layer_parameters(self) -> float:
        """Return how many numbers of the layers one token is multiplied by."""
        return sum(size for _, size in self._active_layer_parameters())

    def weight_updates(self) -> dict[str, WeightUpdate]:
        """Return how training changed the layers' weights, by their names in a model without adapters."""
        return compute_weight_updates(self.causal_lm, self.layer_parameters)

    def embedding_matrices(self) -> dict[str, Float[Tensor, "vocab dim"]]:
        """Return the trained embedding matrices, rows in the order of ids, on the CPU (or `meta`: see `gather`)."""
        matrices = {
            name: (module() if isinstance(module, SplitEmbedding) else module.get_parameter("weight")).detach()
            for name, module in self.embeddings.items()
        }
        return {name: matrix if matrix.is_meta else matrix.cpu() for name, matrix in matrices.items()}

    def shard(self, *, dtype: torch.dtype) -> None:
        """Divide the model among all processes by FSDP2; see `lep.modeling.sharding`."""
        shard_model(self.module, layers=self.decoder_layers, trained=self.parameters.values(), dtype=dtype)

    def evaluate(self, function: Callable[[PreTrainedModel], ResultT]) -> ResultT:
        """Call a function with the causal language model, any part of which it may use, in all processes at once."""
        if not self.is_sharded:
            return function(self.causal_lm)
        return forward_unsharded(self.module, lambda _: function(self.causal_lm))

    def gather(self) -> None:
        """Put what is trained of a sharded model together in the main process; the model must not be run afterwards."""
        if self.is_sharded:
            gather_parameters(self.module, self.parameters.values())

    def _get_embedding_parameter(self, name: str) -> nn.Parameter:
        matrix, part = name.split(".")
        return self.embeddings[matrix].get_parameter(part)

    def _active_layer_parameters(self) -> list[tuple[nn.Parameter, float]]:
        """The matrices of the layers, each with how many of its numbers a token is multiplied by."""
        embeddings = [module for module in self.causal_lm.modules() if isinstance(module, nn.Embedding)]
        looked_up = get_embedding_parameter_ids(self.causal_lm) | {id(module.weight) for module in embeddings}
        config = self.causal_lm.config.get_text_config()
        return [
            (weight, count_active_parameters(config, name, weight))
            for name, weight in self.causal_lm.base_model.named_parameters()
            if weight.ndim >= 2 and id(weight) not in looked_up
        ]


def _get_embedding_modules(model: PreTrainedModel) -> dict[str, Any]:
    return {"embed": model.get_input_embeddings(), "head": model.get_output_embeddings()}


def _find_trained_layer_names(model: PreTrainedModel) -> tuple[str, ...]:
    embeddings = get_embedding_parameter_ids(model)
    return tuple(
        name for name, weight in model.named_parameters() if weight.requires_grad and id(weight) not in embeddings
    )
