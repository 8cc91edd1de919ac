"""Initialization writes the rows of new tokens and changes nothing else of the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from lep.config import InitializeSettings
from lep.errors import CheckpointError, TokenizerError
from lep.io.artifact import Manifest
from lep.io.model_folder import open_model, read_json
from lep.io.model_writer import COMPOSED_ROWS_FILE
from lep.io.tokenizer_file import read_tokenizer

EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_new_rows_are_means_of_old_rows_and_all_else_is_the_bases(bases, initialized, extended, tensors, kind):
    before, after = tensors(bases[kind]), tensors(initialized[kind])
    old, new = read_tokenizer(bases[kind]), read_tokenizer(extended)
    composed = json.loads((initialized[kind] / COMPOSED_ROWS_FILE).read_text())
    assert composed == list(range(500, 560)) and before.keys() == after.keys()
    for name, tensor in before.items():
        if name not in EMBEDDINGS:
            assert torch.equal(after[name], tensor), name
            continue
        assert torch.equal(after[name][:500], tensor)
        for id_ in composed:
            old_ids = list(old.segment(new.vocabulary.tokens[id_]))
            assert len(old_ids) > 1
            assert torch.equal(
                after[name][id_], tensor[old_ids].float().mean(dim=0).to(tensor.dtype)
            ) or torch.allclose(
                after[name][id_].float(), tensor[old_ids].float().mean(dim=0), rtol=1e-2 if kind == "untied" else 1e-5
            )
    assert open_model(initialized[kind]).tied is (kind == "tied")
    assert read_json(initialized[kind] / "config.json")["vocab_size"] == 560


def test_the_bases_own_tokenizer_reproduces_the_base(bases, run_stage, tensors, tmp_path) -> None:
    result = run_stage(
        InitializeSettings(base=bases["untied"], tokenizer=bases["untied"], pad_to_multiple_of=1), tmp_path / "out"
    )
    before, after = tensors(bases["untied"]), tensors(tmp_path / "out")
    assert result.composed_rows == 0 and all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_embeddings_are_padded_with_the_mean_of_all_rows_and_the_tokenizer_is_not(
    bases, extended, initialized, run_stage, tensors, tmp_path
) -> None:
    result = run_stage(InitializeSettings(base=bases["tied"], tokenizer=extended), tmp_path / "out")
    plain, padded = (tensors(path)["model.embed_tokens.weight"] for path in (initialized["tied"], tmp_path / "out"))
    assert result.padding_rows == 16 and padded.shape == (576, 32)
    assert torch.equal(padded[:560], plain)
    assert torch.allclose(padded[560:], plain.mean(dim=0).expand(16, 32), atol=1e-6)
    assert read_json(tmp_path / "out" / "config.json")["vocab_size"] == 576
    assert len(read_tokenizer(tmp_path / "out").vocabulary) == 560


def test_tokens_that_cannot_be_segmented_are_named(bases, tokenizers, make_artifact, tmp_path) -> None:
    with pytest.raises(TokenizerError, match=r"tokens cannot be segmented into tokens of .*<unk>"):
        make_artifact(
            InitializeSettings(base=bases["tied"], tokenizer=tokenizers["sentencepiece_bpe"]), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_embeddings_with_too_few_rows_are_refused(bases, extended, make_artifact, tmp_path) -> None:
    shutil.copytree(bases["tied"], tmp_path / "short")
    tensors = load_file(tmp_path / "short" / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:450].clone()
    save_file(tensors, tmp_path / "short" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="embed has 450 rows for 500 tokens"):
        make_artifact(InitializeSettings(base=tmp_path / "short", tokenizer=extended), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_that_cannot_be_written_does_not_cost_the_model(
    bases, extended, make_artifact, tmp_path, monkeypatch
) -> None:
    shutil.copytree(extended, tmp_path / "tokenizer")
    manifest = Manifest("retokenize", "", {}, {}, {}, result={}, seconds=1.0, peak_memory_bytes=1, finished_at="")
    (tmp_path / "tokenizer/manifest.json").write_text(json.dumps(asdict(manifest)))
    messages: list[str] = []
    monkeypatch.setattr("lep.pipeline.log_message", messages.append)
    make_artifact(InitializeSettings(base=bases["tied"], tokenizer=tmp_path / "tokenizer"), tmp_path / "out")
    assert not (tmp_path / "out/README.md").exists()
    assert len(messages) == 1 and "retokenize: not RetokenizationResult (result.kind" in messages[0]
