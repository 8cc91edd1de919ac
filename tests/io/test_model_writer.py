"""A model folder with new embeddings is the same model in all else, and transformers loads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.errors import CheckpointError
from lep.io.model_folder import open_model, read_json
from lep.io.model_writer import EMBEDDINGS_SHARD, copy_tokenizer, plan_model_copy, write_model_copy
from lep.io.safetensors_files import SAFE_WEIGHTS_INDEX_NAME
from lep.io.tokenizer_file import read_tokenizer

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
def test_a_copy_has_new_embeddings_and_all_else_byte_for_byte(model_folders, tmp_path, tied, shards) -> None:
    source = open_model(model_folders[tied, shards])
    expected_rows = {name: torch.randn(ROWS, 32).bfloat16() for name in source.embedding_matrices()}
    for name, matrix in write_model_copy(plan_model_copy(source, num_embeddings=ROWS), tmp_path).items():
        matrix[:] = expected_rows.pop(name)
        expected_rows[name] = matrix[:]
    before, after = all_tensors(source.path), all_tensors(tmp_path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = {EMBED: expected_rows["embed"], HEAD: expected_rows.get("head")}.get(name, tensor)
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], expected), name
    assert open_model(tmp_path).tied is tied


@pytest.mark.parametrize(("tied", "shards"), SHAPES)
def test_transformers_loads_the_copy(model_folders, tmp_path, tied, shards) -> None:
    source = open_model(model_folders[tied, shards])
    for name, matrix in write_model_copy(plan_model_copy(source, num_embeddings=ROWS), tmp_path).items():
        matrix[:] = torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(len(name))).bfloat16()
    model, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    embed, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embed.shape == head.shape == (ROWS, 32) and model.config.vocab_size == ROWS
    assert (embed.data_ptr() == head.data_ptr()) is tied
    embeddings = open_model(tmp_path).embedding_matrices()
    assert torch.equal(embed, embeddings["embed"][:]) and torch.equal(head, embeddings.get("head", embed)[:])
    assert model(torch.tensor([[ROWS - 1, 0]])).logits.isfinite().all()


@pytest.mark.parametrize("link", ["hard", "copy"])
@pytest.mark.parametrize("tied", [True, False])
def test_shards_without_embeddings_are_linked_and_embeddings_get_their_own(model_folders, tmp_path, tied, link) -> None:
    source = open_model(model_folders[tied, 3])
    plan = plan_model_copy(source, num_embeddings=ROWS)
    write_model_copy(plan, tmp_path, link=link)
    names = [shard.name for shard in source.checkpoint.shards]
    linked = {name for name in names if (tmp_path / name).samefile(source.path / name)}
    assert linked == (set(names[1:] if tied else names[1:2]) if link == "hard" else set())
    assert set(load_file(tmp_path / EMBEDDINGS_SHARD)) == ({EMBED} if tied else {EMBED, HEAD})
    written = [tmp_path / name for name in [EMBEDDINGS_SHARD, *names] if name not in linked]
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in written)
    others = 0 if link == "hard" else sum((tmp_path / name).stat().st_size for name in names[1 : 3 if tied else 2])
    if link == "hard":
        assert plan.bytes_to_write == sum(file.stat().st_size for file in written) - headers
    assert plan.bytes_to_write < sum(file.stat().st_size for file in written) - others


@pytest.mark.parametrize("tied", [True, False])
def test_the_index_says_where_everything_is(model_folders, tmp_path, tied) -> None:
    source = open_model(model_folders[tied, 3])
    write_model_copy(plan_model_copy(source, num_embeddings=ROWS), tmp_path)
    index = read_json(tmp_path / SAFE_WEIGHTS_INDEX_NAME)
    weight_map = {name: file.name for file in tmp_path.glob("*.safetensors") for name in load_file(file)}
    assert index["weight_map"] == weight_map and weight_map.keys() == source.checkpoint.entries.keys()
    assert index["metadata"]["total_size"] == sum(t.numel() * t.itemsize for t in all_tensors(tmp_path).values())


def test_a_copy_of_a_copy_is_as_the_first(model_folders, tmp_path) -> None:
    source = open_model(model_folders[False, 3])
    for folder, rows in (("once", ROWS), ("twice", ROWS + 7)):
        (tmp_path / folder).mkdir()
        for matrix in write_model_copy(
            plan_model_copy(source, num_embeddings=rows), tmp_path / folder, link="hard"
        ).values():
            matrix[:] = torch.ones(rows, 32)
        source = open_model(tmp_path / folder)
    files = [{file.name for file in (tmp_path / folder).iterdir()} for folder in ("once", "twice")]
    assert files[0] == files[1] and len(source.embedding_matrix("head")) == ROWS + 7
    linked = [file for file in files[1] if (tmp_path / "twice" / file).samefile(tmp_path / "once" / file)]
    assert len(linked) == len(files[1]) - 4, "all but the embeddings, the index and two configurations"


@pytest.mark.parametrize("shards", [1, 3])
def test_a_tied_model_can_be_untied(model_folders, tmp_path, shards) -> None:
    source = open_model(model_folders[True, shards])
    embeddings = write_model_copy(plan_model_copy(source, num_embeddings=ROWS, tied=False), tmp_path)
    embeddings["embed"][:], embeddings["head"][:] = torch.ones(ROWS, 32), torch.full((ROWS, 32), 2.0)
    model, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not model.config.tie_word_embeddings
    assert (model.get_input_embeddings().weight == 1).all() and (model.get_output_embeddings().weight == 2).all()


@pytest.mark.parametrize("shards", [1, 3])
def test_other_tensors_can_get_new_values(model_folders, tmp_path, shards) -> None:
    source = open_model(model_folders[True, shards])
    name = "model.layers.1.mlp.up_proj.weight"
    values = {name: lambda: torch.full((48, 32), 3.0)}
    write_model_copy(plan_model_copy(source, num_embeddings=ROWS, changed_tensors=values), tmp_path, new_tensors=values)
    before, after = all_tensors(source.path), all_tensors(tmp_path)
    assert (after[name] == 3).all()
    assert all(torch.equal(before[other], after[other]) for other in before.keys() - {name, EMBED})


@pytest.mark.parametrize("link", ["hard", "copy"])
def test_a_disk_that_is_too_full_is_an_error_before_anything_is_written(
    model_folders, tmp_path, monkeypatch, link
) -> None:
    plan = plan_model_copy(open_model(model_folders[True, 3]), num_embeddings=ROWS)
    needed = plan.bytes_to_write + (sum(file.stat().st_size for file in plan.linked_shards) if link == "copy" else 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(CheckpointError, match=r"GB are to be written and .* free; make room, or give another out="):
        write_model_copy(plan, tmp_path, link=link)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    write_model_copy(plan, tmp_path, link=link)


def test_an_interrupted_copy_can_be_made_again(model_folders, tmp_path) -> None:
    """Linked and half-written shards of the first try are replaced; the source's files are not written through."""
    source = open_model(model_folders[False, 3])
    before = {shard: shard.read_bytes() for shard in source.checkpoint.shards}
    for _ in range(2):
        for matrix in write_model_copy(plan_model_copy(source, num_embeddings=ROWS), tmp_path).values():
            matrix[:] = torch.ones(ROWS, 32)
    assert {shard: shard.read_bytes() for shard in source.checkpoint.shards} == before


def test_configuration_and_small_files_are_copied_but_no_tokenizer_card_and_nothing_of_lep(
    model_folders, tmp_path
) -> None:
    source = open_model(model_folders[True, 1])
    extra = {"README.md": "card", "LICENSE": "free", "manifest.json": "{}", "composed_rows.json": "[]"}
    for name, text in extra.items():
        (source.path / name).write_text(text)
    try:
        write_model_copy(plan_model_copy(source, num_embeddings=ROWS), tmp_path)
    finally:
        for name in extra:
            (source.path / name).unlink()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"LICENSE", "config.json", "generation_config.json", "model.safetensors"}
    assert read_json(tmp_path / "config.json") == {**source.config, "vocab_size": ROWS}
    assert (tmp_path / "generation_config.json").read_bytes() == (source.path / "generation_config.json").read_bytes()


def test_a_tokenizer_is_copied_as_it_is_or_with_another_tokenizer_json(tokenizers, tmp_path) -> None:
    source = tokenizers["byte_level"]
    copy_tokenizer(source, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
    target = tmp_path / "other"
    target.mkdir()
    (tmp_path / "merges.txt").write_text("of the old tokenizer")
    state = read_tokenizer(tokenizers["russian_byte_level"]).tokenizer_json
    copy_tokenizer(tmp_path, target, tokenizer_json=state)
    assert json.loads((target / "tokenizer.json").read_text()) == state and not (target / "merges.txt").exists()
    loaded = AutoTokenizer.from_pretrained(target)
    text = "Старый профессор прочитал 1234 страницы"
    expected = read_tokenizer(tokenizers["russian_byte_level"]).tokenizer.encode(text).ids
    assert loaded.encode(text) == expected and loaded.decode(expected) == text
    assert loaded.eos_token == "<|endoftext|>" and "<|im_start|>" in loaded.chat_template
