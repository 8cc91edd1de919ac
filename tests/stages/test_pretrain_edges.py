"""Settings and folders at the limits of what works: they work, or are refused before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel

from lep.config import CollectSettings, InitializeSettings
from lep.data import packing
from lep.errors import CheckpointError, DataError, UsageError
from lep.io.model_writer import COMPOSED_ROWS_FILE, copy_tokenizer
from lep.io.tokenizer_file import read_tokenizer
from lep.stages import pretrain

from .test_pretrain import BATCH, BLOCK, STEPS, build_settings

POSITIONS = 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokens": BATCH * BLOCK - 1},
            r"tokens=255 are less than one step of sequence_length × batch_size = 256 tokens",
        ),
        ({"warmup_steps": STEPS}, r"warmup_steps=6: learning_rate would never be reached; .* are 6 steps\. Give fewer"),
        (
            {"lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 4, "decay_ratio": 0.5},
            r"warmup_steps=4: learning_rate would never be reached; .* are 6 steps, 3 of them for the decay\. Give",
        ),
        ({"mixture": {}}, "mixture"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"seed": -1}, "seed"),
        ({"sequence_length": 2}, "sequence_length"),
    ],
)
def test_impossible_numbers_are_refused_with_the_settings(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build_settings(tmp_path, tmp_path, **changes)


@pytest.mark.parametrize("share", [0, 1])
def test_the_decay_may_be_all_steps_or_none(tmp_path: Path, share: int) -> None:
    settings = build_settings(
        tmp_path, tmp_path, lr_scheduler_type="warmup_stable_decay", warmup_steps=0, decay_ratio=share
    )
    assert settings.decay_steps == share * STEPS


@pytest.fixture(scope="module")
def few_positions(tokenizers, extended, run_stage, tmp_path_factory) -> Path:
    """An initialized GPT-2, which has a row for each of few positions."""
    root = tmp_path_factory.mktemp("few_positions")
    rows = len(read_tokenizer(tokenizers["byte_level"]).vocabulary)
    shape = {"n_positions": POSITIONS, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(vocab_size=rows, **shape)).save_pretrained(root / "base")
    copy_tokenizer(tokenizers["byte_level"], root / "base")
    run_stage(InitializeSettings(base=root / "base", tokenizer=extended), root / "initialized")
    return root / "initialized"


def test_a_sample_may_have_all_positions_of_a_model_and_no_more(few_positions, corpus, run_stage, tmp_path) -> None:
    result = run_stage(
        build_settings(few_positions, corpus, sequence_length=POSITIONS, tokens=2 * BATCH * POSITIONS), tmp_path / "out"
    )
    assert result.curve[-1].score < result.curve[0].score
    with pytest.raises(
        UsageError, match=r"sequence_length=65 is more than the 64 positions of .*; give a smaller sequence_length"
    ):
        run_stage(
            build_settings(few_positions, corpus, sequence_length=POSITIONS + 1, tokens=10_000), tmp_path / "more"
        )


@pytest.mark.parametrize("text", ["{", "5", "[-1]", "[999]", "[5, 5]", '["a"]', "[1.5]", '{"1": 2}'])
@pytest.mark.parametrize("learn", ["new_tokens", "embeddings"])
def test_a_damaged_list_of_new_rows_is_refused(initialized, corpus, run_stage, tmp_path, text, learn) -> None:
    shutil.copytree(initialized["tied"], tmp_path / "model")
    (tmp_path / "model" / COMPOSED_ROWS_FILE).write_text(text)
    with pytest.raises(
        DataError, match=rf"{COMPOSED_ROWS_FILE}: is no list of different token ids .* make the model again"
    ):
        run_stage(build_settings(tmp_path / "model", corpus, trainable=learn), tmp_path / "out")


def test_new_rows_must_be_known_to_be_trained(initialized, corpus, run_stage, tmp_path) -> None:
    shutil.copytree(initialized["tied"], tmp_path / "model")
    (tmp_path / "model" / COMPOSED_ROWS_FILE).write_text("[]")
    with pytest.raises(DataError, match="is missing or names no new rows"):
        run_stage(build_settings(tmp_path / "model", corpus), tmp_path / "out")


def test_a_language_outside_the_mixture_needs_no_heldout_text(initialized, text_files, run_stage, tmp_path) -> None:
    sources: Any = {name: {"files": [file]} for name, file in text_files.items()}
    run_stage(
        CollectSettings(sources=sources, heldout_fraction=0.1, near_duplicate_threshold=None), tmp_path / "corpus"
    )
    (tmp_path / "corpus" / "de.train.jsonl").write_text(json.dumps({"text": "Kurz."}) + "\n")
    (tmp_path / "corpus" / "de.heldout.jsonl").write_text("")
    result = run_stage(build_settings(initialized["tied"], tmp_path / "corpus"), tmp_path / "out")
    assert result.curve[0].bits_per_byte.keys() == {"ru", "en"}


@pytest.mark.parametrize(("learning_rate", "count"), [(3, 1), (1e-3, 0)])
def test_a_training_that_did_harm_is_reported(
    initialized, corpus, run_stage, tmp_path, monkeypatch, learning_rate, count
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(pretrain, "log_message", messages.append)
    run_stage(
        build_settings(initialized["tied"], corpus, learning_rate=learning_rate, warmup_steps=0), tmp_path / "out"
    )
    assert sum("training made the model worse" in text for text in messages) == count


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.001, ["en: no sample is of this language; its share of 48 is less than one"]), (1, [])],
)
def test_a_language_with_too_small_a_share_is_reported(
    initialized, corpus, run_stage, tmp_path, monkeypatch, fraction, expected
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(packing, "log_message", messages.append)
    result = run_stage(build_settings(initialized["tied"], corpus, mixture={"ru": 1, "en": fraction}), tmp_path / "out")
    assert messages == expected and (result.epochs_by_language["en"] == 0) == bool(expected)


def test_a_model_worse_than_a_uniform_guess_is_refused(initialized, corpus, run_stage, rewrite, tmp_path) -> None:
    confident = rewrite(
        initialized["tied"], tmp_path / "confident", lambda name, rows: rows * (100 if "embed" in name else 1)
    )
    with pytest.raises(
        CheckpointError,
        match=r"loss is \d+\.\d nats per token, that of a uniform guess 6\.3: the tokenizer does not match",
    ):
        run_stage(build_settings(confident, corpus, trainable="embeddings"), tmp_path / "out")
