"""Another model in a tokenizer.json: special tokens get new ids, also in padding and post-processor."""

from __future__ import annotations

import json

from tokenizers import Tokenizer

from lep.io.tokenizer_file import read_tokenizer
from lep.io.tokenizer_json import replace_model

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def item(name: str, sequence: bool = False) -> dict:
    return {"Sequence" if sequence else "SpecialToken": {"id": name, "type_id": 0}}


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [item("<s>"), item("A", sequence=True), item("</s>")],
    "pair": [item("A", sequence=True), item("B", sequence=True)],
    "special_tokens": {
        "<s>": {"id": "<s>", "ids": [0, 1], "tokens": ["<s>", "</s>"]},
        "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]},
    },
}
STATE = {
    "version": "1.0",
    "truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
    "padding": {
        "strategy": {"Fixed": 6},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "</s>",
    },
    "added_tokens": [{"id": 0, "content": "<s>"} | FLAGS, {"id": 1, "content": "</s>"} | FLAGS],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": None,
    "post_processor": TEMPLATE,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "a": 2}, "merges": []},
}
MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2, "<s>": 3}, "merges": []}
IDS = {"<s>": 3, "</s>": 2}


def test_every_id_of_a_special_token_is_remapped() -> None:
    before = json.dumps(STATE)
    result = replace_model(STATE, MODEL, added_token_ids=IDS)
    assert json.dumps(STATE) == before, "the old tokenizer_json is not changed"
    assert [(token["id"], token["content"]) for token in result["added_tokens"]] == [(2, "</s>"), (3, "<s>")]
    assert Tokenizer.from_str(json.dumps(result)).encode("AB").ids == [3, 2, 0, 1, 2, 2]
    assert all(result[key] == STATE[key] for key in ("version", "truncation", "normalizer", "decoder"))
    assert result["model"] == MODEL


def test_nested_processors_are_remapped() -> None:
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}
    roberta |= {"trim_offsets": True, "add_prefix_space": False}
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel", "trim_offsets": True}, roberta]}
    result = replace_model(STATE | {"post_processor": sequence, "padding": None}, MODEL, added_token_ids=IDS)
    changed = roberta | {"sep": ["</s>", 2], "cls": ["<s>", 3]}
    assert result["post_processor"]["processors"] == [sequence["processors"][0], changed]
    assert result["padding"] is None


def test_without_a_processor_or_added_tokens_only_the_model_changes() -> None:
    result = replace_model({"added_tokens": [], "post_processor": None, "model": {}}, MODEL, added_token_ids={})
    assert result == {"added_tokens": [], "post_processor": None, "model": MODEL}


def test_the_same_model_gives_the_same_tokenizer(tokenizers) -> None:
    for family in ("byte_level", "sentencepiece_bpe", "metaspace"):
        base = read_tokenizer(tokenizers[family])
        assert (
            replace_model(base.tokenizer_json, base.tokenizer_json["model"], added_token_ids=base.added_tokens)
            == base.tokenizer_json
        )
