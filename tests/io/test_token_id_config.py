"""Configurations name the same tokens after as before, wherever they name them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lep.errors import TokenizerError
from lep.io.model_folder import read_json, write_json
from lep.io.token_id_config import remap_token_ids
from lep.io.tokenizer_file import TokenizerFile

WORDS = ["a", "b", "c", "d", "ab", "cd"]


def vocabulary(words: list[str], special: dict[str, int]) -> TokenizerFile:
    model = {"type": "BPE", "vocab": {text: id_ for id_, text in enumerate(words)}, "merges": []}
    added = [{"content": text, "id": id_} for text, id_ in special.items()]
    return TokenizerFile(Path("old/tokenizer.json"), {"model": model, "added_tokens": added}, "byte_level")


OLD = vocabulary(WORDS, {"<s>": 6, "</s>": 7, "<pad>": 8, "<image>": 9})
NEW = vocabulary(WORDS[::-1][:4], {"<s>": 20, "</s>": 4, "<pad>": 5, "<image>": 6, "<more>": 7})
"""a and b are gone; c 3, d 2, ab 1, cd 0; and 20 leaves a hole."""


@pytest.fixture
def moved(tmp_path) -> Callable[..., dict[str, Any]]:
    """`moved(config, name)`: the configuration after it was renumbered from OLD to NEW."""

    def move(config: dict[str, Any], name: str = "config.json") -> dict[str, Any]:
        write_json(tmp_path / name, config)
        remap_token_ids(tmp_path, old=OLD, new=NEW)
        return read_json(tmp_path / name)

    return move


NAMES = """bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id
decoder_start_token_id forced_bos_token_id forced_eos_token_id image_token_id image_token_index video_token_id
audio_token_id vision_start_token_id vision_end_token_id boi_token_index eoi_token_index image_token_ids token_id"""


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize(("old", "new"), [(7, 4), ([7, 6], [4, 20]), ([[7], [6, 3]], [[4], [20, 2]]), ([], [])])
def test_ids_are_remapped(moved, name, old, new) -> None:
    assert moved({name: old}) == {name: new}


@pytest.mark.parametrize("name", ["suppress_tokens", "begin_suppress_tokens"])
def test_suppressed_tokens_are_remapped(moved, name) -> None:
    assert moved({name: [2, 3, 9]}, "generation_config.json") == {name: [3, 2, 6]}


@pytest.mark.parametrize("name", ["bad_words_ids", "force_words_ids"])
def test_bad_and_forced_words_are_remapped(moved, name) -> None:
    """As Idefics forbids its image tokens: generation_config.json, bad_words_ids."""
    assert moved({name: [[9], [7, 2]]}, "generation_config.json") == {name: [[6], [4, 3]]}


@pytest.mark.parametrize("value", [None, -1, True, False])
def test_values_without_a_token_are_kept(moved, value) -> None:
    assert moved({"pad_token_id": value}) == {"pad_token_id": value}


@pytest.mark.parametrize(
    "name",
    ["vocab_size", "num_hidden_layers", "mm_tokens_per_image", "max_new_tokens", "image_seq_length", "token_ids_len"],
)
def test_other_numbers_are_kept(moved, name) -> None:
    assert moved({name: 7, "architectures": ["X"]}) == {name: 7, "architectures": ["X"]}


@pytest.mark.parametrize("place", ["text_config", "llm_config", "language_config"])
def test_a_nested_text_config_is_remapped(moved, place) -> None:
    config = {place: {"eos_token_id": 7, "vocab_size": 9}, "vision_config": {"eos_token_id": 7}, "image_token_index": 9}
    expected = {
        place: {"eos_token_id": 4, "vocab_size": 9},
        "vision_config": {"eos_token_id": 7},
        "image_token_index": 6,
    }
    assert moved(config) == expected


def test_each_existing_file_is_rewritten(tmp_path) -> None:
    for name in ("config.json", "generation_config.json", "other.json"):
        write_json(tmp_path / name, {"eos_token_id": 7})
    remap_token_ids(tmp_path, old=OLD, new=NEW)
    ids = [read_json(tmp_path / name)["eos_token_id"] for name in ("config.json", "generation_config.json")]
    assert ids == [4, 4] and read_json(tmp_path / "other.json") == {"eos_token_id": 7}
    (tmp_path / "generation_config.json").unlink()
    remap_token_ids(tmp_path, old=NEW, new=OLD)
    assert read_json(tmp_path / "config.json")["eos_token_id"] == 7


def test_remapping_back_restores_the_ids(moved, tmp_path) -> None:
    config = {"eos_token_id": [6, 7, 8, 9, 2, 3, 4, 5], "text_config": {"pad_token_id": 8}}
    moved(config)
    remap_token_ids(tmp_path, old=NEW, new=OLD)
    assert read_json(tmp_path / "config.json") == config


@pytest.mark.parametrize(("value", "id_"), [(77, 77), ([7, 0], 0), ([[1]], 1)])
def test_an_id_without_a_token_is_named(moved, value, id_) -> None:
    """0 and 1 are tokens that the new vocabulary lacks, 77 none at all."""
    message = rf"eos_token_id in config.json of old/tokenizer.json: no token has id {id_}, or the new vocabulary"
    with pytest.raises(TokenizerError, match=message):
        moved({"eos_token_id": value})
    with pytest.raises(
        TokenizerError, match=rf"eos_token_id in text_config in config.json of .*: no token has id {id_}"
    ):
        moved({"text_config": {"eos_token_id": value}})


def test_a_special_token_takes_precedence_over_a_learned_one(tmp_path) -> None:
    """The same text twice: as a token that is matched whole, and as a learned one."""
    old = vocabulary(["a", "<s>"], {"<end>": 2})
    new = vocabulary(["<end>", "<s>", "a"], {"<end>": 5})
    write_json(tmp_path / "config.json", {"bos_token_id": 2})
    remap_token_ids(tmp_path, old=old, new=new)
    assert read_json(tmp_path / "config.json") == {"bos_token_id": 5}
    write_json(tmp_path / "config.json", {"bos_token_id": 1})
    remap_token_ids(tmp_path, old=vocabulary(["a"], {"<s>": 1}), new=vocabulary(["<s>"], {}))
    assert read_json(tmp_path / "config.json") == {"bos_token_id": 0}


def test_a_placeholder_beyond_both_vocabularies_is_kept_but_not_an_end_token(moved) -> None:
    """As a configuration class's id for images, in a model that has no such token."""
    assert moved({"image_token_id": 255_999, "eos_token_id": 9})["image_token_id"] == 255_999
    with pytest.raises(TokenizerError, match=r"image_token_index in config.json of .*: no token has id 1"):
        moved({"image_token_index": 1})
