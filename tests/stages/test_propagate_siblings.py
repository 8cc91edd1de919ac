"""Adapters and adapted layers: propagate agrees with what peft merges, and links every unchanged file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.config import PropagateSettings
from lep.errors import CheckpointError
from lep.io.model_folder import read_json, write_json

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"
KINDS = ("tied", "untied")
LAST = {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]}
"""The last of two layers, so that one of three shards changes."""


def adapter(base: Path, folder: Path, *, rows: int | None = None, seed: int = 1, **settings: Any) -> Path:
    """An adapter as peft saves it, all that it trains random; with `rows`, over tables that were resized."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if rows:
            model.resize_token_embeddings(rows, mean_resizing=False)
        tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", **LAST | settings))
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.1 * torch.randn(parameter.shape).to(parameter.dtype))
    tuned.save_pretrained(str(folder))
    return folder


def merged(base: Path, folder: Path, target: Path, *, rows: int | None = None, tokenizer: Path) -> Path:
    """The model that peft makes of base and adapter, saved with a tokenizer and the base's other files."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    full_model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    full_model.save_pretrained(target)
    for place in (base, tokenizer):
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (place / name).exists():
                shutil.copyfile(place / name, target / name)
    return target


def train_embeddings(kind: str) -> dict[str, Any]:
    """Settings of an adapter that also trains the embeddings, as continued pre-training does."""
    if kind == "tied":
        return {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    return {"modules_to_save": ["embed_tokens", "lm_head"]}


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name


def inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.glob("*.safetensors")}


def linked(folder: Path, source: Path) -> set[str]:
    """Files of a result that are hard links to the source's."""
    return {name for name, inode in inodes(folder).items() if inodes(source).get(name) == inode}


@pytest.fixture
def chatty(bases, tmp_path):
    """An instruct adapter with two chat tokens of its own, saved with its tokenizer, and the merged model."""

    def make(kind: str, *, trained: bool) -> tuple[Path, Path]:
        tables = train_embeddings(kind) if trained else {}
        folder = adapter(bases[kind], tmp_path / "adapter", rows=502, **tables)
        tokenizer = AutoTokenizer.from_pretrained(bases[kind])
        tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>", "</tool>"]})
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<tool>")
        tokenizer.save_pretrained(folder)
        return folder, merged(bases[kind], folder, tmp_path / "merged", rows=502, tokenizer=folder)

    return make


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_instruct_adapter_is_the_model_that_peft_merges(
    bases, adapteds, chatty, run_stage, tensors, tmp_path, kind, trained
) -> None:
    folder, full_model = chatty(kind, trained=trained)
    models = {"base": bases[kind], "adapted": adapteds[kind]}
    result = run_stage(PropagateSettings(**models, instruct=folder), tmp_path / "out")
    expected = run_stage(PropagateSettings(**models, instruct=full_model), tmp_path / "expected")
    propagated = tensors(tmp_path / "out")
    assert_same_bits(propagated, tensors(tmp_path / "expected"))
    residuals, expected_residuals = (
        {name: fit.residual for name, fit in each.fits.items()} for each in (result, expected)
    )
    assert residuals == expected_residuals
    saved = load_file(folder / "adapter_model.safetensors")
    chat = saved[f"base_model.model.{EMBED}"][500:]
    assert torch.equal(propagated[EMBED][560:], chat.to(propagated[EMBED].dtype))
    assert (result.special_tokens_kept, result.layers_changed) == (5, 2)
    assert result.chat_tokens == expected.chat_tokens
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("<tool></tool>", add_special_tokens=False)["input_ids"] == [560, 561]
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(folder).chat_template
    assert not {"adapter_config.json", "adapter_model.safetensors"} & {
        item.name for item in (tmp_path / "out").iterdir()
    }
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == 562


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_without_a_tokenizer_uses_its_bases(
    bases, adapteds, instructs, run_stage, tensors, tmp_path, kind
) -> None:
    """Over the instruct model as base, too: its template and its generation settings are the result's."""
    folder = adapter(instructs[kind], tmp_path / "adapter")
    full_model = merged(instructs[kind], folder, tmp_path / "merged", tokenizer=instructs[kind])
    models = {"base": instructs[kind], "adapted": adapteds[kind], "layers_scale": 0}
    run_stage(PropagateSettings(**models, instruct=folder), tmp_path / "out")
    run_stage(PropagateSettings(**models, instruct=full_model), tmp_path / "expected")
    assert_same_bits(tensors(tmp_path / "out"), tensors(tmp_path / "expected"))
    out, source = tmp_path / "out", instructs[kind]
    assert (out / "chat_template.jinja").read_text() == (source / "chat_template.jinja").read_text()
    assert read_json(out / "generation_config.json") == read_json(source / "generation_config.json")


def test_shards_without_adapted_tensors_are_linked(bases, adapteds, run_stage, tmp_path) -> None:
    """The adapter changes the last layer, in the second shard; each embedding matrix leaves its shard."""
    base = bases["untied"]
    run_stage(PropagateSettings(base=base, adapted=adapteds["untied"], instruct=base), tmp_path / "without")
    folder = adapter(base, tmp_path / "adapter")
    run_stage(PropagateSettings(base=base, adapted=adapteds["untied"], instruct=folder), tmp_path / "out")
    index = read_json(base / "model.safetensors.index.json")["weight_map"]
    changed = {shard for name, shard in index.items() if "layers.1" in name and ("q_proj" in name or "v_proj" in name)}
    plain = set(index.values()) - {index[EMBED], index[HEAD]}
    assert linked(tmp_path / "without", base) == plain and plain
    assert linked(tmp_path / "out", base) == plain - changed
    weight_map = read_json(tmp_path / "out" / "model.safetensors.index.json")["weight_map"]
    assert weight_map.keys() == index.keys()
    assert all(name in load_file(tmp_path / "out" / shard) for name, shard in weight_map.items())


@pytest.mark.parametrize("link", ["hard", "copy"])
def test_copies_share_no_file(bases, adapteds, instructs, run_stage, tensors, tmp_path, link) -> None:
    models = {"base": bases["untied"], "adapted": adapteds["untied"], "instruct": instructs["untied"]}
    run_stage(PropagateSettings(**models, link=link), tmp_path / "out")
    run_stage(PropagateSettings(**models), tmp_path / "hard")
    assert_same_bits(tensors(tmp_path / "out"), tensors(tmp_path / "hard"))
    input_inodes = {item.stat().st_ino for folder in models.values() for item in folder.iterdir()}
    shared = {item.name for item in (tmp_path / "out").iterdir() if item.stat().st_ino in input_inodes}
    assert shared == (linked(tmp_path / "hard", instructs["untied"]) if link == "hard" else set())


@pytest.mark.parametrize("scale", [None, 1.0, 0.5, 0.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_adapter_changes_embeddings_and_layers(
    bases, initialized, extended, instructs, run_stage, tensors, tmp_path, kind, scale
) -> None:
    """Its embeddings go through P; its layers' change is added to the instruct model, times `layers_scale`."""
    folder = adapter(initialized[kind], tmp_path / "adapter", **train_embeddings(kind))
    full_model = merged(initialized[kind], folder, tmp_path / "merged", tokenizer=extended)
    models = {"base": bases[kind], "instruct": instructs[kind]}
    settings = PropagateSettings(**models, adapted=folder, adapter_base=initialized[kind], layers_scale=scale)
    result = run_stage(settings, tmp_path / "out")
    run_stage(PropagateSettings(**models, adapted=full_model, layers_scale=0), tmp_path / "expected")
    propagated, expected, instruct = (
        tensors(path) for path in (tmp_path / "out", tmp_path / "expected", instructs[kind])
    )
    factors = load_file(folder / "adapter_model.safetensors")
    changed_layers = {f"model.layers.1.self_attn.{part}_proj.weight" for part in "qv"}
    assert result.layers_changed == (0 if scale == 0 else 2)
    for name, tensor in expected.items():
        if name in changed_layers and scale != 0:
            a, b = (factors[f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight"] for part in "AB")
            delta = (1.0 if scale is None else scale) * 1.5 * (b.double() @ a.double())
            merged_weight = (instruct[name].double() + delta).to(tensor.dtype)
            torch.testing.assert_close(
                propagated[name], merged_weight, rtol=8e-3 if kind == "untied" else 1e-6, atol=1e-7
            )
            assert not torch.equal(propagated[name], instruct[name])
        else:
            assert torch.equal(propagated[name], tensor), name


@pytest.fixture
def retrained(adapteds, tmp_path):
    """An adapted model with a changed layer: `q_proj` of the last one."""

    def make(kind: str) -> Path:
        folder = tmp_path / "retrained"
        shutil.copytree(adapteds[kind], folder)
        for shard in folder.glob("*.safetensors"):
            inside = load_file(shard)
            if QUERY in inside:
                inside[QUERY] = inside[QUERY] + 0.25
                save_file(inside, shard, metadata={"format": "pt"})
        return folder

    return make


def test_changed_layers_need_a_decision(bases, instructs, retrained, make_artifact, tmp_path) -> None:
    models = {"base": bases["untied"], "adapted": retrained("untied"), "instruct": instructs["untied"]}
    with pytest.raises(CheckpointError, match=rf"retrained: '{QUERY}' differs from .*layers_scale=1 adds"):
        make_artifact(PropagateSettings(**models), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_task_vector_of_a_whole_adapted_model_is_added(
    bases, adapteds, instructs, retrained, run_stage, tensors, tmp_path, kind, scale
) -> None:
    """arXiv 2212.04089: W_instruct + s·(W_adapted − W_base)."""
    models = {"base": bases[kind], "instruct": instructs[kind]}
    adapted = retrained(kind)
    run_stage(PropagateSettings(**models, adapted=adapted, layers_scale=scale), tmp_path / "out")
    run_stage(PropagateSettings(**models, adapted=adapteds[kind]), tmp_path / "expected")
    propagated, expected, instruct = (
        tensors(path) for path in (tmp_path / "out", tmp_path / "expected", instructs[kind])
    )
    difference = tensors(adapted)[QUERY].double() - tensors(bases[kind])[QUERY].double()
    expected[QUERY] = (instruct[QUERY].double() + scale * difference).to(instruct[QUERY].dtype)
    torch.testing.assert_close(
        propagated.pop(QUERY), expected.pop(QUERY), rtol=8e-3 if kind == "untied" else 1e-6, atol=1e-7
    )
    assert_same_bits(propagated, expected)


def test_unchanged_layers_stay_linked(bases, instructs, retrained, run_stage, tmp_path) -> None:
    models = {"base": bases["untied"], "adapted": retrained("untied"), "instruct": instructs["untied"]}
    run_stage(PropagateSettings(**models, layers_scale=0), tmp_path / "without")
    result = run_stage(PropagateSettings(**models, layers_scale=1), tmp_path / "out")
    shard = read_json(bases["untied"] / "model.safetensors.index.json")["weight_map"][QUERY]
    assert linked(tmp_path / "out", instructs["untied"]) == linked(tmp_path / "without", instructs["untied"]) - {shard}
    assert result.layers_changed == 1


def renamed(source: Path, target: Path) -> Path:
    """The same model with its tensors named otherwise, as libraries do from one version to the next."""
    shutil.copytree(source, target)
    inside = {name.replace("model.", "decoder."): t for name, t in load_file(source / "model.safetensors").items()}
    save_file(inside, target / "model.safetensors", metadata={"format": "pt"})
    write_json(target / "config.json", read_json(target / "config.json") | {"model_type": "another"})
    return target


def test_layers_of_other_names_are_refused(bases, initialized, instructs, run_stage, tmp_path) -> None:
    folder = adapter(initialized["tied"], tmp_path / "adapter")
    models = {"base": bases["tied"], "adapted": folder, "adapter_base": initialized["tied"]}
    with pytest.raises(CheckpointError, match=r"renamed: no tensor 'model\.layers\.1\.self_attn\.[qv]_proj\.weight'"):
        run_stage(
            PropagateSettings(**models, instruct=renamed(instructs["tied"], tmp_path / "renamed")), tmp_path / "out"
        )


def test_an_adapters_base_may_still_be_made_when_all_is_checked(bases, initialized, instructs, tmp_path) -> None:
    """A recipe whose `initialize` has not run again yet: `pipeline.check` must leave it to the stage itself."""
    from lep.stages.propagate import check

    folder = adapter(initialized["tied"], tmp_path / "adapter")
    models = {"base": bases["tied"], "adapted": folder, "instruct": instructs["tied"]}
    check(PropagateSettings(**models, adapter_base=tmp_path / "not yet"))


def test_an_adapted_adapter_needs_its_base(bases, initialized, instructs, run_stage, tmp_path) -> None:
    folder = adapter(initialized["tied"], tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"is a LoRA adapter; name the initialized model.*adapter_base="):
        run_stage(PropagateSettings(base=bases["tied"], adapted=folder, instruct=instructs["tied"]), tmp_path / "out")


def test_a_link_to_nowhere_is_no_file_of_the_model(bases, adapteds, instructs, run_stage, tmp_path) -> None:
    base = Path(shutil.copytree(bases["tied"], tmp_path / "base"))
    (base / "lost").symlink_to(tmp_path / "nowhere")
    run_stage(PropagateSettings(base=base, adapted=adapteds["tied"], instruct=instructs["tied"]), tmp_path / "out")
