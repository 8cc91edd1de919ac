"""A split table is the table it was made from, and its training touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lep.engine.tables import SplitTable, TrainableTables

NEW_ROWS = [[], [7, 8, 9], [0, 3, 9], [5], list(range(10))]


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_forward_equals_the_table(new_rows: list[int]) -> None:
    table = torch.randn(10, 4)
    split = SplitTable(table, new_rows=torch.tensor(new_rows, dtype=torch.int64))
    assert torch.equal(split(), table)
    assert torch.equal(split.new, table[new_rows]) and len(split.old) + len(split.new) == 10
    assert split.old.dtype == split.new.dtype == torch.float32
    assert split.old.data_ptr() != table.data_ptr()


@pytest.mark.parametrize("new_rows", NEW_ROWS)
def test_gradients_reach_the_right_rows(new_rows: list[int]) -> None:
    split = SplitTable(torch.randn(10, 4), new_rows=torch.tensor(new_rows, dtype=torch.int64))
    weights = torch.arange(10.0)
    (split() * weights[:, None]).sum().backward()
    for part, rows in ((split.new, new_rows), (split.old, [i for i in range(10) if i not in new_rows])):
        if rows:
            assert part.grad is not None and torch.equal(part.grad, weights[rows][:, None].expand(-1, 4))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, make_model, tokenizers, tmp_path) -> Path:
    return make_model(tmp_path / "model", tokenizers["byte_level"], tied=request.param)


def trainable(folder: Path, *, dtype: torch.dtype = torch.float32) -> TrainableTables:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return TrainableTables(model, new_rows=torch.tensor([3, 200, 499]))


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
