"""A split table is the table it was made from, and its training touches nothing else."""

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

from lep.data.packing import IGNORED
from lep.errors import CheckpointError
from lep.modeling.trainable_embeddings import SplitTable, TrainableTables

NEW_ROWS = [[], [7, 8, 9], [0, 3, 9], [5], list(range(10))]


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_forward_equals_the_table(new_rows: list[int]) -> None:
    table = torch.randn(10, 4)
    split = SplitTable(table, new_rows=torch.tensor(new_rows, dtype=torch.int64), frozen=False)
    assert torch.equal(split(), table)
    assert torch.equal(split.new, table[new_rows]) and len(split.old) + len(split.new) == 10
    assert split.old.dtype == split.new.dtype == torch.float32
    assert split.old.data_ptr() != table.data_ptr()


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_gradients_reach_the_right_rows(new_rows: list[int]) -> None:
    split = SplitTable(torch.randn(10, 4), new_rows=torch.tensor(new_rows, dtype=torch.int64), frozen=False)
    weights = torch.arange(10.0)
    (split() * weights[:, None]).sum().backward()
    for part, rows in ((split.new, new_rows), (split.old, [i for i in range(10) if i not in new_rows])):
        if rows:
            assert part.grad is not None and torch.equal(part.grad, weights[rows][:, None].expand(-1, 4))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, make_model, tokenizers, tmp_path) -> Path:
    return make_model(tmp_path / "model", tokenizers["byte_level"], tied=request.param)


def trainable(folder: Path, *, dtype: torch.dtype = torch.float32, old_rows_learn: bool = True) -> TrainableTables:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return TrainableTables(model, new_rows=torch.tensor([3, 200, 499]), old_rows_learn=old_rows_learn)


def test_the_model_computes_what_it_did(folder: Path) -> None:
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for dtype in (torch.float32, torch.bfloat16):
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)(input_ids=ids, attention_mask=mask).logits
        found = trainable(folder, dtype=dtype)(input_ids=ids, attention_mask=mask).logits
        assert found.dtype == dtype and torch.equal(found, expected)


def test_only_tables_learn_and_all_of_them_do(folder: Path) -> None:
    model = trainable(folder)
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    learns = {id(p) for p in model.parameters() if p.requires_grad}
    assert learns == {id(part) for table in model.tables.values() for part in (table.old, table.new)}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_the_state_is_the_tables_alone_and_comes_back(folder: Path) -> None:
    model, other = trainable(folder), trainable(folder)
    for table in model.tables.values():
        torch.nn.init.normal_(table.old)
        torch.nn.init.normal_(table.new)
    state = {name: rows.clone() for name, rows in model.state_dict().items()}
    assert state.keys() == {f"{name}.{part}" for name in model.tables for part in ("old", "new")}
    loaded = other.load_state_dict(state, strict=False)
    assert not loaded.missing_keys and not loaded.unexpected_keys
    for name, table in model.tables.items():
        assert torch.equal(other.tables[name](), table())
    ids = torch.arange(12)[None]
    logits = [m(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for m in (model, other)]
    assert torch.equal(*logits)


def test_a_state_that_lacks_rows_is_refused(folder: Path) -> None:
    model = trainable(folder)
    state = model.state_dict()
    with pytest.raises(KeyError, match=r"embed\.new"):
        model.load_state_dict({name: rows for name, rows in state.items() if name != "embed.new"})
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state | {"embed.new": torch.zeros(2, 32)})


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
    return {"input_ids": ids, "attention_mask": present.long(), "labels": ids.masked_fill(~present, IGNORED)}


@pytest.mark.parametrize("more", [{}, {"num_items_in_batch": torch.tensor(77)}], ids=["mean", "accumulated"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_the_models_own(
    family: str, dtype: torch.dtype, tolerance: float, more: dict[str, torch.Tensor]
) -> None:
    plain = random_model(FAMILIES[family], dtype=dtype)
    expected: Any = plain(**batch(), **more)
    expected.loss.backward()
    model = TrainableTables(random_model(FAMILIES[family], dtype=dtype), new_rows=torch.tensor([3, 200, 499]))
    assert model.without_logits is (family not in OWN_LOSS)
    found = model(**batch(), **more)
    assert (found.logits is None) is model.without_logits
    found.loss.backward()
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=0)
    modules: Any = {"embed": plain.get_input_embeddings(), "head": plain.get_output_embeddings()}
    for name, table in model.tables.items():
        assert table.old.grad is not None and table.new.grad is not None and not table.new.grad.is_sparse
        gradient, whole = torch.cat([table.old.grad, table.new.grad])[table.order], modules[name].weight.grad.float()
        assert (gradient - whole).norm() <= tolerance * whole.norm()
    with torch.no_grad():
        assert torch.equal(model(**batch() | {"labels": None}).logits, expected.logits)


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_with_follows_every_step(folder: Path, dtype: torch.dtype, how: dict[str, bool]) -> None:
    model, other = trainable(folder, dtype=dtype), trainable(folder, dtype=dtype)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5, **how)
    for _ in range(2):
        model(**batch()).loss.backward()
        optimizer.step()
        for table in model.tables.values():
            assert torch.equal(table.computed()[table.order], table().to(dtype))
    other.load_state_dict(model.state_dict())
    for table in other.tables.values():
        assert torch.equal(table.computed()[table.order], table().to(dtype))
    assert torch.equal(other(**batch()).loss, model(**batch()).loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_old_rows_have_one_copy_and_are_moved_by_nothing(folder: Path, dtype: torch.dtype) -> None:
    whole = trainable(folder, dtype=dtype)
    model, other = (trainable(folder, dtype=dtype, old_rows_learn=False) for _ in range(2))
    whole(**batch()).loss.backward()
    gradients = {name: table.new.grad for name, table in whole.tables.items()}
    before = {name: table().detach().clone() for name, table in model.tables.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    model(**batch()).loss.backward()
    for name, table in model.tables.items():
        assert table.old.grad is None and table.old.dtype == dtype
        assert table.old.data_ptr() == table.rows.data_ptr()
        assert table.new.grad is not None and torch.equal(table.new.grad, gradients[name])
    optimizer.step()
    new = torch.tensor([3, 200, 499])
    for name, table in model.tables.items():
        moved = (table() != before[name]).any(dim=1)
        assert torch.equal(moved.nonzero().flatten(), new)
    assert model.state_dict().keys() == {f"{name}.new" for name in model.tables}
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(table(), model.tables[name]()) for name, table in other.tables.items())


def test_a_head_with_a_bias_is_refused() -> None:
    with pytest.raises(CheckpointError, match="PhiForCausalLM: its head adds a bias"):
        TrainableTables(random_model(PhiConfig(**SIZES)), new_rows=torch.tensor([3]))


def test_an_embedding_that_does_more_is_refused() -> None:
    class Doubled(torch.nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = random_model(FAMILIES["llama untied"])
    model.set_input_embeddings(Doubled(500, 32))
    with pytest.raises(CheckpointError, match="its embedding does more than look up rows"):
        TrainableTables(model, new_rows=torch.tensor([3]))


@pytest.mark.parametrize("family", ["llama", *sorted(OWN_LOSS)])
def test_the_loss_of_a_document_is_not_touched_by_what_is_packed_before_it(family: str) -> None:
    tables = TrainableTables(random_model(FAMILIES[family]), new_rows=torch.tensor([3])).eval()
    ids = torch.randint(0, 500, (1, 20), generator=torch.Generator().manual_seed(1))
    other = torch.cat([ids[:, :8] + 1, ids[:, 8:]], dim=1) % 500
    labels = ids.clone()
    labels[:, :9] = IGNORED
    positions = torch.cat([torch.arange(8), torch.arange(12)])[None]
    losses = [tables(input_ids=given, position_ids=positions, labels=labels).loss for given in (ids, other)]
    torch.testing.assert_close(*losses)
