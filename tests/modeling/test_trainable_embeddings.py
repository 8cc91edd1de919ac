"""A split embedding equals the matrix it was made from, and its training changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    PhiConfig,
    PreTrainedModel,
)

from lep.data.packing import IGNORE_INDEX
from lep.errors import CheckpointError
from lep.modeling.trainable_embeddings import SplitEmbedding, TrainableEmbeddings

NEW_ROWS = [[], [7, 8, 9], [0, 3, 9], [5], list(range(10))]


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_forward_equals_the_matrix(new_rows: list[int]) -> None:
    matrix = torch.randn(10, 4)
    split = SplitEmbedding(matrix, new_ids=torch.tensor(new_rows, dtype=torch.int64), freeze_old_rows=False)
    assert torch.equal(split(), matrix)
    assert torch.equal(split.new, matrix[new_rows]) and len(split.old) + len(split.new) == 10
    assert split.old.dtype == split.new.dtype == torch.float32
    assert split.old.data_ptr() != matrix.data_ptr()


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_gradients_reach_the_right_rows(new_rows: list[int]) -> None:
    split = SplitEmbedding(torch.randn(10, 4), new_ids=torch.tensor(new_rows, dtype=torch.int64), freeze_old_rows=False)
    weights = torch.arange(10.0)
    (split() * weights[:, None]).sum().backward()
    for part, rows in ((split.new, new_rows), (split.old, [i for i in range(10) if i not in new_rows])):
        if rows:
            assert part.grad is not None and torch.equal(part.grad, weights[rows][:, None].expand(-1, 4))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, make_model, tokenizers, tmp_path) -> Path:
    return make_model(tmp_path / "model", tokenizers["byte_level"], tied=request.param)


def trainable(folder: Path, *, dtype: torch.dtype = torch.float32, train_old_rows: bool = True) -> TrainableEmbeddings:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return TrainableEmbeddings(model, new_ids=torch.tensor([3, 200, 499]), train_old_rows=train_old_rows)


def test_logits_do_not_change(folder: Path) -> None:
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for dtype in (torch.float32, torch.bfloat16):
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)(input_ids=ids, attention_mask=mask).logits
        actual = trainable(folder, dtype=dtype)(input_ids=ids, attention_mask=mask).logits
        assert actual.dtype == dtype and torch.equal(actual, expected)


def test_only_embeddings_are_trained(folder: Path) -> None:
    model = trainable(folder)
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    learns = {id(p) for p in model.parameters() if p.requires_grad}
    assert learns == {id(part) for matrix in model.embeddings.values() for part in (matrix.old, matrix.new)}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


SIZES: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama untied": LlamaConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8),  # scales what it looks up
    "gemma2": Gemma2Config(**SIZES, head_dim=8),  # caps logits
    "granite": GraniteConfig(**SIZES, logits_scaling=4.0),
}
OWN_LOSS = {"gemma2", "granite"}


def random_model(config: Any, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()


def batch() -> dict[str, torch.Tensor]:
    """Two samples of which one is padded."""
    ids = torch.randint(1, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    present = torch.arange(9) < torch.tensor([[9], [5]])
    return {"input_ids": ids, "attention_mask": present.long(), "labels": ids.masked_fill(~present, IGNORE_INDEX)}


@pytest.mark.parametrize("more", [{}, {"num_items_in_batch": torch.tensor(77)}], ids=["mean", "accumulated"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_the_models_own(
    family: str, dtype: torch.dtype, tolerance: float, more: dict[str, torch.Tensor]
) -> None:
    plain = random_model(FAMILIES[family], dtype=dtype)
    expected: Any = plain(**batch(), **more)
    expected.loss.backward()
    model = TrainableEmbeddings(random_model(FAMILIES[family], dtype=dtype), new_ids=torch.tensor([3, 200, 499]))
    assert model.can_skip_logits is (family not in OWN_LOSS)
    actual = model(**batch(), **more)
    assert (actual.logits is None) is model.can_skip_logits
    actual.loss.backward()
    torch.testing.assert_close(actual.loss, expected.loss, rtol=1e-5, atol=0)
    modules: Any = {"embed": plain.get_input_embeddings(), "head": plain.get_output_embeddings()}
    for name, matrix in model.embeddings.items():
        assert matrix.old.grad is not None and matrix.new.grad is not None and not matrix.new.grad.is_sparse
        gradient, whole = (
            torch.cat([matrix.old.grad, matrix.new.grad])[matrix.id_to_row],
            modules[name].weight.grad.float(),
        )
        assert (gradient - whole).norm() <= tolerance * whole.norm()
    with torch.no_grad():
        assert torch.equal(model(**batch() | {"labels": None}).logits, expected.logits)


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_follows_every_optimizer_step(folder: Path, dtype: torch.dtype, how: dict[str, bool]) -> None:
    model = trainable(folder, dtype=dtype)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5, **how)
    for _ in range(2):
        model(**batch()).loss.backward()
        optimizer.step()
        for matrix in model.embeddings.values():
            assert torch.equal(matrix.refresh_weight()[matrix.id_to_row], matrix().to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_old_rows_have_one_copy_and_are_moved_by_nothing(folder: Path, dtype: torch.dtype) -> None:
    whole = trainable(folder, dtype=dtype)
    model = trainable(folder, dtype=dtype, train_old_rows=False)
    whole(**batch()).loss.backward()
    gradients = {name: matrix.new.grad for name, matrix in whole.embeddings.items()}
    before = {name: matrix().detach().clone() for name, matrix in model.embeddings.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    model(**batch()).loss.backward()
    for name, matrix in model.embeddings.items():
        assert matrix.old.grad is None and matrix.old.dtype == dtype
        assert matrix.old.data_ptr() == matrix.weight.data_ptr()
        assert matrix.new.grad is not None and torch.equal(matrix.new.grad, gradients[name])
    optimizer.step()
    new = torch.tensor([3, 200, 499])
    for name, matrix in model.embeddings.items():
        moved = (matrix() != before[name]).any(dim=1)
        assert torch.equal(moved.nonzero().flatten(), new)
    assert all(matrix.trained == ("new",) for matrix in model.embeddings.values())


def test_a_head_with_a_bias_is_refused() -> None:
    with pytest.raises(CheckpointError, match="PhiForCausalLM: its output embeddings add a bias"):
        TrainableEmbeddings(random_model(PhiConfig(**SIZES)), new_ids=torch.tensor([3]))


def test_an_embedding_that_does_more_is_refused() -> None:
    class Doubled(torch.nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = random_model(FAMILIES["llama untied"])
    model.set_input_embeddings(Doubled(500, 32))
    with pytest.raises(CheckpointError, match="its input embeddings do more than look up rows"):
        TrainableEmbeddings(model, new_ids=torch.tensor([3]))


@pytest.mark.parametrize("family", ["llama", *sorted(OWN_LOSS)])
def test_the_loss_of_a_document_is_not_touched_by_what_is_packed_before_it(family: str) -> None:
    model = TrainableEmbeddings(random_model(FAMILIES[family]), new_ids=torch.tensor([3])).eval()
    ids = torch.randint(0, 500, (1, 20), generator=torch.Generator().manual_seed(1))
    other = torch.cat([ids[:, :8] + 1, ids[:, 8:]], dim=1) % 500
    labels = ids.clone()
    labels[:, :9] = IGNORE_INDEX
    positions = torch.cat([torch.arange(8), torch.arange(12)])[None]
    losses = [model(input_ids=sample, position_ids=positions, labels=labels).loss for sample in (ids, other)]
    torch.testing.assert_close(*losses)
