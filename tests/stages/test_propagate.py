"""The propagated model is the instruct model with the adapted vocabulary, and nothing else of it changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.config import PropagateSettings
from lep.errors import CheckpointError, TokenizerError
from lep.io.model_folder import open_model, read_json, write_json
from lep.io.model_writer import COMPOSED_ROWS_FILE
from lep.io.safetensors_files import Checkpoint, TensorInfo
from lep.io.tokenizer_file import read_tokenizer

METHODS = ("swap", "overlap", "conversion")
EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight"}
SPECIAL = [0, 1, 2]
CASES = [(kind, method) for kind in ("tied", "untied") for method in METHODS]


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_propagation_into_the_base_returns_the_adapted_model_bit_for_bit(
    bases, initialized, vary, run_stage, tensors, tmp_path, kind, method
) -> None:
    new = json.loads((initialized[kind] / COMPOSED_ROWS_FILE).read_text())
    adapted = vary(initialized[kind], tmp_path / "adapted", tables=True, rows=new)
    run_stage(
        PropagateSettings(base=bases[kind], adapted=adapted, instruct=bases[kind], method=method), tmp_path / "out"
    )
    expected, propagated = tensors(adapted), tensors(tmp_path / "out")
    assert expected.keys() == propagated.keys()
    for name, tensor in expected.items():
        assert same_bits(propagated[name], tensor), name


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_only_special_rows_are_the_bases_when_all_rows_were_adapted(
    bases, adapteds, run_stage, tensors, tmp_path, kind, method
) -> None:
    run_stage(
        PropagateSettings(base=bases[kind], adapted=adapteds[kind], instruct=bases[kind], method=method),
        tmp_path / "out",
    )
    base, adapted, propagated = (tensors(path) for path in (bases[kind], adapteds[kind], tmp_path / "out"))
    for name in EMBEDDINGS & propagated.keys():
        assert same_bits(propagated[name][3:], adapted[name][3:])
        assert same_bits(propagated[name][SPECIAL], base[name][SPECIAL])
        assert not torch.equal(adapted[name][SPECIAL], base[name][SPECIAL])


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_everything_but_the_embeddings_is_the_instruct_models(
    bases, adapteds, instructs, run_stage, tensors, tmp_path, kind, method
) -> None:
    settings = PropagateSettings(base=bases[kind], adapted=adapteds[kind], instruct=instructs[kind], method=method)
    result = run_stage(settings, tmp_path / "out")
    instruct, propagated = tensors(instructs[kind]), tensors(tmp_path / "out")
    rows = len(read_tokenizer(adapteds[kind]).vocabulary)
    assert instruct.keys() == propagated.keys()
    assert (len(result.fits), result.special_tokens_kept) == (1 if kind == "tied" else 2, 3)
    for name, tensor in instruct.items():
        assert propagated[name].dtype == tensor.dtype
        if name in EMBEDDINGS:
            assert propagated[name].shape == (rows, 32)
            assert same_bits(propagated[name][SPECIAL], tensor[SPECIAL])
            assert propagated[name].isfinite().all() and (propagated[name] != 0).any(dim=1).all()
        else:
            assert same_bits(propagated[name], tensor), name
    assert open_model(tmp_path / "out").tied is open_model(instructs[kind]).tied is (kind == "tied")
    old, new = read_json(instructs[kind] / "config.json"), read_json(tmp_path / "out" / "config.json")
    assert new == old | {"vocab_size": rows}
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == (
        instructs[kind] / "chat_template.jinja"
    ).read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.tie_word_embeddings is (kind == "tied")


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_linear_change_is_transferred_exactly(
    bases, adapteds, vary, run_stage, tensors, tmp_path, kind, method
) -> None:
    """instruct = base · P in float64 ⇒ propagated = adapted · P, up to rounding; swap leaves P out."""
    change = torch.eye(32) + 0.1 * torch.randn(32, 32, generator=torch.Generator().manual_seed(5))
    instruct = vary(bases[kind], tmp_path / "instruct", rows=[])
    for shard in instruct.glob("*.safetensors"):
        inside = load_file(shard)
        turned = {k: (v.float() @ change).to(v.dtype) if k in EMBEDDINGS else v for k, v in inside.items()}
        save_file(turned, shard, metadata={"format": "pt"})
    run_stage(
        PropagateSettings(base=bases[kind], adapted=adapteds[kind], instruct=instruct, method=method), tmp_path / "out"
    )
    adapted, propagated = tensors(adapteds[kind]), tensors(tmp_path / "out")
    for name in EMBEDDINGS & propagated.keys():
        expected = adapted[name].float() if method == "swap" else adapted[name].float() @ change
        error = (propagated[name].float() - expected)[3:].norm() / expected.norm()
        assert error < (1e-6 if kind == "tied" else 1e-2), name


@pytest.mark.parametrize("method", METHODS)
def test_only_embeddings_are_read(bases, adapteds, instructs, run_stage, tmp_path, monkeypatch, method) -> None:
    read: set[tuple[Path, str]] = set()
    original = Checkpoint.get_float_info

    def get_float_info(self: Checkpoint, name: str) -> TensorInfo:
        read.add((self.folder, name))
        return original(self, name)

    monkeypatch.setattr(Checkpoint, "get_float_info", get_float_info)
    models = {"base": bases["untied"], "adapted": adapteds["untied"], "instruct": instructs["untied"]}
    run_stage(PropagateSettings(**models, method=method), tmp_path / "out")
    assert read == {(folder, name) for folder in models.values() for name in EMBEDDINGS}


@pytest.fixture(scope="module")
def with_tools(tokenizers, make_model, tmp_path_factory) -> Path:
    """An instruct model with two added tokens: a padding token and an end of sequence."""
    root = tmp_path_factory.mktemp("tools")
    shutil.copytree(tokenizers["byte_level"], root / "tokenizer")
    state = json.loads((root / "tokenizer" / "tokenizer.json").read_text())
    for id_, text in ((500, "<tool>"), (501, "</tool>")):
        state["added_tokens"].append({**state["added_tokens"][0], "id": id_, "content": text})
    (root / "tokenizer" / "tokenizer.json").write_text(json.dumps(state))
    model = make_model(root / "model", root / "tokenizer", seed=9)
    write_json(
        model / "config.json", read_json(model / "config.json") | {"pad_token_id": 500, "eos_token_id": [2, 501]}
    )
    write_json(model / "generation_config.json", {"eos_token_id": [501, 2], "pad_token_id": 500, "bos_token_id": 0})
    return model


@pytest.mark.parametrize("method", METHODS)
def test_added_tokens_of_the_instruct_model_get_new_ids(
    bases, adapteds, with_tools, run_stage, tensors, tmp_path, method
) -> None:
    settings = PropagateSettings(base=bases["tied"], adapted=adapteds["tied"], instruct=with_tools, method=method)
    assert run_stage(settings, tmp_path / "out").special_tokens_kept == 5
    instruct, propagated = (tensors(path)["model.embed_tokens.weight"] for path in (with_tools, tmp_path / "out"))
    assert propagated.shape[0] == 562
    assert same_bits(propagated[[0, 1, 2, 560, 561]], instruct[[0, 1, 2, 500, 501]])
    config, generation = (read_json(tmp_path / "out" / f"{name}config.json") for name in ("", "generation_"))
    assert (config["pad_token_id"], config["eos_token_id"], config["bos_token_id"]) == (560, [2, 561], 0)
    assert (generation["pad_token_id"], generation["eos_token_id"]) == (560, [561, 2])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("<tool></tool>", add_special_tokens=False)["input_ids"] == [560, 561]
    assert len(tokenizer) == 562 and AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == 562
    text = "Маленькая девочка in the library"
    adapted = AutoTokenizer.from_pretrained(adapteds["tied"])
    assert tokenizer(text)["input_ids"] == adapted(text)["input_ids"]


def test_padding_of_the_adapted_embeddings_is_kept(bases, adapteds, instructs, run_stage, tensors, tmp_path) -> None:
    """Padding rows are propagated like the rows of tokens."""
    padded = tmp_path / "padded"
    shutil.copytree(adapteds["tied"], padded)
    inside = load_file(padded / "model.safetensors")
    rows = inside["model.embed_tokens.weight"]
    inside["model.embed_tokens.weight"] = torch.cat([rows, torch.zeros(16, 32)])
    save_file(inside, padded / "model.safetensors", metadata={"format": "pt"})
    run_stage(PropagateSettings(base=bases["tied"], adapted=padded, instruct=instructs["tied"]), tmp_path / "out")
    assert tensors(tmp_path / "out")["model.embed_tokens.weight"].shape[0] == len(rows) + 16
    assert read_json(tmp_path / "out" / "config.json")["vocab_size"] == len(rows) + 16


def crop_embeddings(folder: Path, target: Path, *, columns: int = 32, rows: int | None = None) -> Path:
    """The same model with smaller embeddings."""
    shutil.copytree(folder, target)
    inside = load_file(target / "model.safetensors")
    name = "model.embed_tokens.weight"
    inside[name] = inside[name][:rows, :columns].clone()
    save_file(inside, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_models_of_different_bases_are_refused(
    bases, adapteds, instructs, tokenizers, make_model, make_artifact, tmp_path
) -> None:
    models = {"base": bases["tied"], "adapted": adapteds["tied"], "instruct": instructs["tied"]}
    foreign = make_model(tmp_path / "foreign", tokenizers["russian_byte_level"])
    narrow = crop_embeddings(instructs["tied"], tmp_path / "narrow", columns=24)
    refused = [
        ({"instruct": foreign}, TokenizerError, "must have the base's vocabulary"),
        ({"instruct": narrow}, CheckpointError, "rows of 24, .* of 32; the models do not come from one base"),
    ]
    for changes, error, message in refused:
        with pytest.raises(error, match=message):
            make_artifact(PropagateSettings(**models | changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["base", "adapted", "instruct"])
def test_embeddings_with_too_few_rows_are_refused(bases, adapteds, instructs, make_artifact, tmp_path, which) -> None:
    models = {"base": bases["tied"], "adapted": adapteds["tied"], "instruct": instructs["tied"]}
    models[which] = crop_embeddings(models[which], tmp_path / "short", rows=450)
    with pytest.raises(CheckpointError, match="450 rows"):
        make_artifact(PropagateSettings(**models), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["base", "adapted", "instruct"])
def test_a_truncated_shard_is_refused(bases, adapteds, instructs, make_artifact, tmp_path, which) -> None:
    models = {"base": bases["untied"], "adapted": adapteds["untied"], "instruct": instructs["untied"]}
    shutil.copytree(models[which], tmp_path / "cut")
    shard = sorted((tmp_path / "cut").glob("*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=shard.name):
        make_artifact(PropagateSettings(**models | {which: tmp_path / "cut"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_with_nan_is_refused(bases, adapteds, instructs, make_artifact, tmp_path) -> None:
    broken = crop_embeddings(adapteds["tied"], tmp_path / "broken")
    inside = load_file(broken / "model.safetensors")
    inside["model.embed_tokens.weight"][530] = float("nan")
    save_file(inside, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"embed of .*broken: row 530 \(token .* is zero or not finite"):
        make_artifact(
            PropagateSettings(base=bases["tied"], adapted=broken, instruct=instructs["tied"]), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_an_end_of_sequence_id_without_a_token_is_refused(bases, adapteds, instructs, make_artifact, tmp_path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(instructs["tied"], odd)
    write_json(odd / "generation_config.json", {"eos_token_id": [2, 777]})
    with pytest.raises(
        TokenizerError, match=r"eos_token_id in generation_config\.json of .*odd.*: no token has id 777"
    ):
        make_artifact(PropagateSettings(base=bases["tied"], adapted=adapteds["tied"], instruct=odd), tmp_path / "out")
