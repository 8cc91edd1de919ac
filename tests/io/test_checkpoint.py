"""A model folder with new tables is the same model in all else, and transformers loads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.io.checkpoint import copy_model, copy_tokenizer, copy_with_tables
from lep.io.model import open_model, read_json
from lep.io.tensors import INDEX
from lep.io.tokenizer_files import read_tokenizer

ROWS = 523
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SHAPES = [(tied, shards) for tied in (True, False) for shards in (1, 3)]


@pytest.fixture(scope="module")
def model_folders(tokenizers, make_model, tmp_path_factory) -> dict[tuple[bool, int], Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        (tied, shards): make_model(
            root / f"{tied}-{shards}", tokenizers["byte_level"], tied=tied, shards=shards, dtype="bfloat16"
        )
        for tied, shards in SHAPES
    }


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for shard in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(shard).items()}


@pytest.mark.parametrize(("tied", "shards"), SHAPES)
def test_a_copy_has_new_tables_and_all_else_byte_for_byte(model_folders, tmp_path, tied, shards) -> None:
    source = open_model(model_folders[tied, shards])
    wanted = {room: torch.randn(ROWS, 32).bfloat16() for room in source.tables()}
    for room, view in copy_with_tables(source, tmp_path, rows=ROWS).items():
        view[:] = wanted.pop(room)
        wanted[room] = view.clone()
    before, after = all_tensors(source.path), all_tensors(tmp_path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = {EMBED: wanted["embed"], HEAD: wanted.get("head")}.get(name, tensor)
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], expected), name
    assert open_model(tmp_path).tied is tied


@pytest.mark.parametrize(("tied", "shards"), SHAPES)
def test_transformers_loads_the_copy(model_folders, tmp_path, tied, shards) -> None:
    source = open_model(model_folders[tied, shards])
    for room, view in copy_with_tables(source, tmp_path, rows=ROWS).items():
        view[:] = torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(len(room))).bfloat16()
    model, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    embed, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embed.shape == head.shape == (ROWS, 32) and model.config.vocab_size == ROWS
    assert (embed.data_ptr() == head.data_ptr()) is tied
    tables = open_model(tmp_path).tables()
    assert torch.equal(embed, tables["embed"]) and torch.equal(head, tables.get("head", embed))
    assert model(torch.tensor([[ROWS - 1, 0]])).logits.isfinite().all()


@pytest.mark.parametrize("tied", [True, False])
def test_shards_without_a_table_are_linked_not_copied(model_folders, tmp_path, tied) -> None:
    source = open_model(model_folders[tied, 3])
    copy_with_tables(source, tmp_path, rows=ROWS)
    linked = {shard.name for shard in source.checkpoint.shards if (tmp_path / shard.name).samefile(shard)}
    names = [shard.name for shard in source.checkpoint.shards]
    assert linked == set(names[1:] if tied else names[1:2])


@pytest.mark.parametrize("tied", [True, False])
def test_the_index_says_the_new_size(model_folders, tmp_path, tied) -> None:
    source = open_model(model_folders[tied, 3])
    copy_with_tables(source, tmp_path, rows=ROWS)
    index = read_json(tmp_path / INDEX)
    assert index["weight_map"] == read_json(source.path / INDEX)["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.numel() * t.itemsize for t in all_tensors(tmp_path).values())


def test_an_interrupted_copy_can_be_made_again(model_folders, tmp_path) -> None:
    """Linked and half-written shards of the first try are replaced; the source's files are not written through."""
    source = open_model(model_folders[False, 3])
    before = {shard: shard.read_bytes() for shard in source.checkpoint.shards}
    for _ in range(2):
        for view in copy_with_tables(source, tmp_path, rows=ROWS).values():
            view[:] = 1
    for view in copy_model(source, tmp_path).values():
        view[:] = 2
    assert {shard: shard.read_bytes() for shard in source.checkpoint.shards} == before


def test_configuration_and_small_files_are_carried_but_no_tokenizer_and_nothing_of_lep(model_folders, tmp_path) -> None:
    source = open_model(model_folders[True, 1])
    extra = {"README.md": "card", "LICENSE": "free", "manifest.json": "{}", "composed_rows.json": "[]"}
    for name, text in extra.items():
        (source.path / name).write_text(text)
    try:
        copy_with_tables(source, tmp_path, rows=ROWS)
    finally:
        for name in extra:
            (source.path / name).unlink()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "LICENSE", "config.json", "generation_config.json", "model.safetensors"}
    assert read_json(tmp_path / "config.json") == {**source.config, "vocab_size": ROWS}
    assert (tmp_path / "generation_config.json").read_bytes() == (source.path / "generation_config.json").read_bytes()


@pytest.mark.parametrize(("tied", "shards"), SHAPES)
def test_a_whole_copy_is_the_model_to_be_filled(model_folders, tmp_path, tied, shards) -> None:
    source = open_model(model_folders[tied, shards])
    wanted = {name: torch.randn(tensor.shape).bfloat16() for name, tensor in all_tensors(source.path).items()}
    views = copy_model(source, tmp_path)
    assert views.keys() == wanted.keys()
    for name, view in views.items():
        view[:] = wanted[name]
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in all_tensors(tmp_path).items())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in source.path.iterdir()}
    assert AutoTokenizer.from_pretrained(tmp_path).encode("The little girl")


def test_a_tokenizer_is_copied_as_it_is_or_with_another_state(tokenizers, tmp_path) -> None:
    source = tokenizers["byte_level"]
    copy_tokenizer(source, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
    target = tmp_path / "other"
    target.mkdir()
    (tmp_path / "merges.txt").write_text("of the old one")
    state = read_tokenizer(tokenizers["russian_byte_level"]).state
    copy_tokenizer(tmp_path, target, state=state)
    assert json.loads((target / "tokenizer.json").read_text()) == state and not (target / "merges.txt").exists()
    loaded = AutoTokenizer.from_pretrained(target)
    text = "Старый профессор прочитал 1234 страницы"
    expected = read_tokenizer(tokenizers["russian_byte_level"]).tokenizer.encode(text).ids
    assert loaded.encode(text) == expected and loaded.decode(expected) == text
    assert loaded.eos_token == "<|endoftext|>" and "<|im_start|>" in loaded.chat_template
