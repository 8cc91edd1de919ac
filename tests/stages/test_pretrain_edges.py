"""Settings and folders at the edge of what can work: they work, or are refused before the work, in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel

from lep.config import Collect, Initialize
from lep.data import packing
from lep.errors import CheckpointError, DataError, UsageError
from lep.io.model_writer import COMPOSED_ROWS, copy_tokenizer
from lep.io.tokenizer_file import read_tokenizer
from lep.stages import pretrain

from .test_pretrain import BATCH, BLOCK, STEPS, settings

POSITIONS = 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": BATCH * BLOCK - 1}, r"tokens=255 are less than one step of block × batch_size = 256 tokens"),
        ({"warmup_steps": STEPS}, r"warmup_steps=6: lr would never be reached, .* make 6 steps; warm up in fewer"),
        (
            {"schedule": "warmup_stable_decay", "warmup_steps": 4, "decay_share": 0.5},
            r"warmup_steps=4: lr would never be reached, .* make 6 steps, 3 of them to go down; warm up",
        ),
        ({"mixture": {}}, "mixture"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"seed": -1}, "seed"),
        ({"block": 2}, "block"),
    ],
)
def test_numbers_that_cannot_work_are_told_when_settings_are_read(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(tmp_path, tmp_path, **changes)


@pytest.mark.parametrize("share", [0, 1])
def test_a_run_may_go_down_never_or_from_the_start(tmp_path: Path, share: int) -> None:
    wanted = settings(tmp_path, tmp_path, schedule="warmup_stable_decay", warmup_steps=0, decay_share=share)
    assert wanted.decay_steps == share * STEPS


@pytest.fixture(scope="module")
def short_sighted(tokenizers, extended, run_room, tmp_path_factory) -> Path:
    """An initialized GPT-2, which has a row for each of few positions."""
    root = tmp_path_factory.mktemp("short_sighted")
    rows = len(read_tokenizer(tokenizers["byte_level"]).vocabulary)
    shape = {"n_positions": POSITIONS, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(vocab_size=rows, **shape)).save_pretrained(root / "base")
    copy_tokenizer(tokenizers["byte_level"], root / "base")
    run_room(Initialize(base=root / "base", tokenizer=extended), root / "initialized")
    return root / "initialized"


def test_a_block_may_have_all_positions_of_a_model_and_no_more(short_sighted, corpus, run_room, tmp_path) -> None:
    numbers = run_room(settings(short_sighted, corpus, block=POSITIONS, tokens=2 * BATCH * POSITIONS), tmp_path / "out")
    assert numbers["curve"][-1]["score"] < numbers["curve"][0]["score"]
    with pytest.raises(UsageError, match=r"block=65 is more than the 64 tokens that .*; give a smaller block"):
        run_room(settings(short_sighted, corpus, block=POSITIONS + 1, tokens=10_000), tmp_path / "more")


@pytest.mark.parametrize("text", ["{", "5", "[-1]", "[999]", "[5, 5]", '["a"]', "[1.5]", '{"1": 2}'])
@pytest.mark.parametrize("learn", ["new_rows", "embeddings"])
def test_new_rows_that_the_table_does_not_have_are_refused(
    initialized, corpus, run_room, tmp_path, text, learn
) -> None:
    shutil.copytree(initialized["tied"], tmp_path / "model")
    (tmp_path / "model" / COMPOSED_ROWS).write_text(text)
    with pytest.raises(DataError, match=rf"{COMPOSED_ROWS}: is no list of different ids .* make the model again"):
        run_room(settings(tmp_path / "model", corpus, learn=learn), tmp_path / "out")


def test_new_rows_must_be_there_to_learn(initialized, corpus, run_room, tmp_path) -> None:
    shutil.copytree(initialized["tied"], tmp_path / "model")
    (tmp_path / "model" / COMPOSED_ROWS).write_text("[]")
    with pytest.raises(DataError, match="names no new rows"):
        run_room(settings(tmp_path / "model", corpus), tmp_path / "out")


def test_a_language_beside_the_mixture_needs_no_heldout_text(initialized, text_files, run_room, tmp_path) -> None:
    sources: Any = {name: {"files": [file]} for name, file in text_files.items()}
    run_room(Collect(sources=sources, heldout_share=0.1, near_duplicates=None), tmp_path / "corpus")
    (tmp_path / "corpus" / "de.train.jsonl").write_text(json.dumps({"text": "Kurz."}) + "\n")
    (tmp_path / "corpus" / "de.heldout.jsonl").write_text("")
    numbers = run_room(settings(initialized["tied"], tmp_path / "corpus"), tmp_path / "out")
    assert numbers["curve"][0]["bits_per_byte"].keys() == {"ru", "en"}


@pytest.mark.parametrize(("lr", "told"), [(3, 1), (1e-3, 0)])
def test_a_training_that_did_harm_is_told(initialized, corpus, run_room, tmp_path, monkeypatch, lr, told) -> None:
    notes: list[str] = []
    monkeypatch.setattr(pretrain, "note", notes.append)
    run_room(settings(initialized["tied"], corpus, lr=lr, warmup_steps=0), tmp_path / "out")
    assert sum("training made the model worse" in text for text in notes) == told


@pytest.mark.parametrize(
    ("share", "told"), [(0.001, ["en: no sample is of this language; its share of 48 is less than one"]), (1, [])]
)
def test_a_language_with_too_small_a_share_is_told(
    initialized, corpus, run_room, tmp_path, monkeypatch, share, told
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(packing, "note", notes.append)
    numbers = run_room(settings(initialized["tied"], corpus, mixture={"ru": 1, "en": share}), tmp_path / "out")
    assert notes == told and (numbers["passes"]["en"] == 0) == bool(told)


def test_a_model_that_does_worse_than_guessing_has_another_tokenizer(
    initialized, corpus, run_room, rewrite, tmp_path
) -> None:
    sure = rewrite(initialized["tied"], tmp_path / "sure", lambda name, rows: rows * (100 if "embed" in name else 1))
    with pytest.raises(CheckpointError, match=r"costs it \d+\.\d nats, guessing 6\.3: its tokenizer is not its own"):
        run_room(settings(sure, corpus, learn="embeddings"), tmp_path / "out")
