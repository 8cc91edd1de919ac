"""Configurations, tokenizers and templates, broken."""

from __future__ import annotations

from typing import Any

from .edits import (
    added,
    all_of,
    content,
    cut,
    dangling,
    gone,
    merges,
    model,
    nothing_but_a_folder,
    put,
    too_deep,
    vocab,
)
from .family import OWN
from .mutations_of_weights import FOLDER, Changes, Refusal

CONFIG, GENERATION, TOKENIZER, SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
TEMPLATE = "chat_template.jinja"

OBJECT, NO_JSON = "expected a JSON object", "not JSON"


def broken(name: str, *, absent: Refusal) -> Changes:
    """What can befall any JSON file."""
    return {
        "gone": (gone(name), absent),
        "empty": (content(name, ""), NO_JSON),
        "cut": (cut(name), NO_JSON),
        "no JSON": (content(name, "<html>"), NO_JSON),
        "no UTF-8": (content(name, b'{"model_type": "\xff"}'), NO_JSON),
        "of UTF-16": (content(name, "{}".encode("utf-16")), NO_JSON),
        "too deep": (content(name, too_deep()), NO_JSON),
        "a list": (content(name, "[]"), OBJECT),
        "none": (content(name, "null"), OBJECT),
        "a folder": (nothing_but_a_folder(name), FOLDER),
        "a dangling link": (dangling(name), absent),
    }


TYPES = {"base": None, "adapted": None, "instruct": "cannot load"}
"""What only transformers minds, which loads the instruct model's tokenizer."""

CONFIGS: Changes = broken(CONFIG, absent="is not there") | {
    "vocab_size is absent": (put(CONFIG, vocab_size=...), None),
    "vocab_size is wrong": (put(CONFIG, vocab_size=99), None),
    "vocab_size is text": (put(CONFIG, vocab_size="275"), TYPES),
    "vocab_size is none": (put(CONFIG, vocab_size=None), TYPES),
    "model_type is unknown": (put(CONFIG, model_type="mammoth"), None),
    "model_type is absent": (put(CONFIG, model_type=...), None),
    "model_type is none": (put(CONFIG, model_type=None), None),
    "model_type is a list": (put(CONFIG, model_type=["llama"]), "model_type"),
    "model_type is unknown and vocab_size text": (put(CONFIG, model_type="mammoth", vocab_size="275"), "vocab_size"),
    "model_type is unknown and hidden_size text": (
        put(CONFIG, model_type="mammoth", hidden_size="8"),
        "cannot identify the embeddings",
    ),
    "model_type is unknown and vocab_size too large": (
        put(CONFIG, model_type="mammoth", vocab_size=10**6),
        "cannot identify the embeddings",
    ),
    "text_config is a list": (put(CONFIG, text_config=[]), None),
    "an end that is none": (put(CONFIG, eos_token_id=None), None),
}
TIED: Changes = {
    "says untied": (put(CONFIG, tie_word_embeddings=False), "says untied embeddings, but"),
    "does not say tied": (put(CONFIG, tie_word_embeddings=...), "says untied embeddings, but"),
    "says none of tied": (put(CONFIG, tie_word_embeddings=None), "says untied embeddings, but"),
    "says text of tied": (put(CONFIG, tie_word_embeddings="true"), "says untied embeddings, but"),
}
"""Of a model without a head."""

UNTIED: Changes = {
    "says tied": (put(CONFIG, tie_word_embeddings=True), "says tied embeddings, but"),
    "does not say tied": (put(CONFIG, tie_word_embeddings=...), None),
    "says none of tied": (put(CONFIG, tie_word_embeddings=None), TYPES),
    "says text of tied": (put(CONFIG, tie_word_embeddings="true"), TYPES),
}
"""Of a model with a head."""

NO_TOKEN, NO_ID = "no token has id", "expected an integer"


def end(value: Any, name: str = GENERATION) -> Any:
    return put(name, eos_token_id=value)


GENERATIONS: Changes = broken(GENERATION, absent=None) | {
    "a folder": (nothing_but_a_folder(GENERATION), None),
    "an end beyond the vocabulary": (end(99_999), NO_TOKEN),
    "an end in the padding": (end(273), NO_TOKEN),
    "several ends": (end([2, 0, 270]), None),
    "an end below zero": (end(-1), None),
    "an end that is true": (end(True), None),
    "an end that is none": (end(None), None),
    "an end that is text": (end("<|im_end|>"), NO_ID),
    "an end that is a digit as text": (end("2"), NO_ID),
    "an end with a fraction": (end(270.0), NO_ID),
    "an end that is an object": (end({"id": 2}), NO_ID),
    "ends within ends": (end([[2], [0]]), None),
    "no ends": (end([]), None),
    "an end that is text among ends": (end([2, "0"]), NO_ID),
    "suppressed tokens beyond the vocabulary": (put(GENERATION, suppress_tokens=[1, 500]), NO_TOKEN),
    "unlike numbers": (content(GENERATION, '{"temperature": NaN}'), None),
}
"""Of the instruct model."""

NO_STATE, OTHER_ID = "not a tokenizer.json", "but tokenizers gives it"


SAME = "must have the base's vocabulary"

TOKENIZERS: Changes = {
    name: (change, NO_STATE if words in (NO_JSON, OBJECT) else "neither" if words == FOLDER else words)
    for name, (change, words) in broken(TOKENIZER, absent="neither tokenizer.json nor").items()
} | {
    "no model": (put(TOKENIZER, model=...), NO_STATE),
    "a model that is none": (put(TOKENIZER, model=None), NO_STATE),
    "a model that is a list": (put(TOKENIZER, model=[]), NO_STATE),
    "no vocabulary": (model(lambda m: m.pop("vocab") and None), NO_STATE),
    "a vocabulary that is none": (model(lambda m: m | {"vocab": None}), NO_STATE),
    "a vocabulary that is empty": (vocab(lambda v: {}), NO_STATE),
    "a vocabulary that is a list of text": (vocab(lambda v: list(v)), NO_STATE),
    "a vocabulary that is a number": (vocab(lambda v: 3), NO_STATE),
    "WordPiece": (model(lambda m: m | {"type": "WordPiece"}), "does not keep the bytes"),
    "WordLevel": (model(lambda m: m | {"type": "WordLevel"}), "does not keep the bytes"),
    "no type": (model(lambda m: m.pop("type") and None), None),
    "a type that is a list": (model(lambda m: m | {"type": ["BPE"]}), "does not keep"),
    "Unigram over a dict": (model(lambda m: m | {"type": "Unigram"}), NO_STATE),
    "an id below zero": (vocab(lambda v: v | {"the": -5}), NO_STATE),
    "an id that is text": (vocab(lambda v: v | {"the": "7"}), NO_STATE),
    "an id with a fraction": (vocab(lambda v: v | {"the": 260.0}), NO_STATE),
    "an id that is true": (vocab(lambda v: v | {"the": True}), NO_STATE),
    "an id that is none": (vocab(lambda v: v | {"the": None}), NO_STATE),
    "an id beyond the tables": (vocab(lambda v: v | {"the": 5_000}), "rows for 5001 tokens"),
    "an id beyond memory": (vocab(lambda v: v | {"the": 2**60}), NO_STATE),
    "one id for two tokens": (vocab(lambda v: v | {"the": v["Ġthe"]}), NO_STATE),
    "a character outside the alphabet": (vocab(lambda v: v | {"日": 260}), NO_STATE),
    "half a surrogate pair": (content(TOKENIZER, '{"model": {"vocab": {"\\ud800": 0}}}'), r"."),
    "no token for a byte": (
        vocab(lambda v: {key: id_ for key, id_ in v.items() if key != "ÿ"}),
        {"base": None, "adapted": None, "instruct": OTHER_ID},
    ),
    "an empty token": (
        vocab(lambda v: {key.replace("ÿ", ""): id_ for key, id_ in v.items()}),
        {"base": SAME, "adapted": None, "instruct": SAME},
    ),
    "two tokens changed about": (
        vocab(lambda v: v | {"the": v["Ġthe"], "Ġthe": v["the"]}),
        {"base": SAME, "adapted": None, "instruct": SAME},
    ),
    "no added tokens": (
        put(TOKENIZER, added_tokens=[]),
        {"base": None, "adapted": OTHER_ID, "instruct": "no token has id"},
    ),
    "added tokens that are none": (put(TOKENIZER, added_tokens=None), NO_STATE),
    "added tokens that are text": (put(TOKENIZER, added_tokens=["<s>"]), NO_STATE),
    "an added token without an id": (added(lambda a: a[0].pop("id") and None), NO_STATE),
    "an added token without text": (added(lambda a: a[0].pop("content") and None), NO_STATE),
    "an added token of empty text": (added(lambda a: a[0].update(content="")), NO_STATE),
    "an added token whose text is a number": (added(lambda a: a[0].update(content=3)), NO_STATE),
    "an added token below zero": (added(lambda a: a[0].update(id=-1)), NO_STATE),
    "an added token beyond the tables": (added(lambda a: a[2].update(id=4_000)), OTHER_ID),
    "an added token with another's id": (added(lambda a: a[2].update(id=1)), OTHER_ID),
    "an added token on a learnt one's id": (added(lambda a: a[2].update(id=265)), OTHER_ID),
    "an added token of a learnt one's text": (added(lambda a: a[2].update(content="the")), OTHER_ID),
    "an added token twice": (added(lambda a: a.append(a[1] | {"id": 290})), OTHER_ID),
    "merges that are absent": (model(lambda m: m.pop("merges") and None), NO_STATE),
    "merges that are none": (merges(lambda m: None or 0), NO_STATE),
    "a merge that is one word": (merges(lambda m: m.append("the")), NO_STATE),
    "a merge of three": (merges(lambda m: m.append(["t", "h", "e"])), NO_STATE),
    "a merge of numbers": (merges(lambda m: m.append([1, 2])), NO_STATE),
    "a merge of what is no token": (merges(lambda m: m.append(["t", "zzz"])), NO_STATE),
    "a merge into what is no token": (merges(lambda m: m.append(["z", "z"])), NO_STATE),
    "merges in one string each": (merges(lambda m: [" ".join(pair) for pair in m]), None),
    "merges that are empty": (merges(lambda m: []), None),
    "no pre-tokenizer": (put(TOKENIZER, pre_tokenizer=None), "not its pre-tokenizer"),
    "a pre-tokenizer unknown": (put(TOKENIZER, pre_tokenizer={"type": "ByteLevels"}), NO_STATE),
    "a pre-tokenizer that is text": (put(TOKENIZER, pre_tokenizer="ByteLevel"), NO_STATE),
    "neither pre-tokenizer nor decoder": (put(TOKENIZER, pre_tokenizer=None, decoder=None), "neither byte-level nor"),
    "a normalizer unknown": (put(TOKENIZER, normalizer={"type": "Magic"}), NO_STATE),
    "a post-processor unknown": (put(TOKENIZER, post_processor={"type": "Magic"}), NO_STATE),
    "an unknown token that is absent": (model(lambda m: m | {"unk_token": "<nope>"}), None),
    "an unknown token that is learnt": (model(lambda m: m | {"unk_token": "the"}), None),
    "an unknown token that is a number": (model(lambda m: m | {"unk_token": 3}), NO_STATE),
    "version is none": (put(TOKENIZER, version=None), NO_STATE),
    "padding to a token that is absent": (
        put(
            TOKENIZER,
            padding={
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 999,
                "pad_type_id": 0,
                "pad_token": "<nope>",
            },
        ),
        None,
    ),
}

CHAT: Changes = {
    f"{SETTINGS} {name}": (change, {"base": None, "adapted": None, "instruct": words})
    for name, (change, words) in broken(SETTINGS, absent=None).items()
} | {
    "special tokens that are none": (put(SETTINGS, bos_token=None, eos_token=None, pad_token=None), None),
    "an end that is no token": (put(SETTINGS, eos_token="<nope>"), None),
    "a class unknown": (put(SETTINGS, tokenizer_class="MammothTokenizer"), None),
    "a decoder of added tokens that is old": (put(SETTINGS, added_tokens_decoder={"0": {"content": "<x>"}}), None),
    "special tokens in a list": (put(SETTINGS, extra_special_tokens=[OWN]), None),
    "a longest text that is text": (put(SETTINGS, model_max_length="many"), None),
    "no template": (lambda f: (f / TEMPLATE).unlink(missing_ok=True), None),
    "a template that is empty": (content(TEMPLATE, ""), None),
    "a template that is no jinja": (content(TEMPLATE, "{% for m in"), None),
    "a template of unknown functions": (content(TEMPLATE, "{{ magic(messages) }}"), None),
    "a template of undefined values": (content(TEMPLATE, "{{ messages[0].a.b.c }}"), None),
    "a template that raises": (content(TEMPLATE, "{{ raise_exception('no') }}"), None),
    "a template that divides by zero": (content(TEMPLATE, "{{ 1 / 0 }}"), None),
    "a template that takes lists for text": (content(TEMPLATE, "{{ messages + 1 }}"), None),
    "a template that is no UTF-8": (
        content(TEMPLATE, b"\xff\xfe"),
        {"base": None, "adapted": None, "instruct": "cannot load"},
    ),
    "a template that is a folder": (
        nothing_but_a_folder(TEMPLATE),
        {"base": None, "adapted": None, "instruct": FOLDER},
    ),
    "templates in the settings": (put(SETTINGS, chat_template=[{"name": "default", "template": "{{ 1 }}"}]), None),
    "a template that is a number": (
        all_of(lambda f: (f / TEMPLATE).unlink(missing_ok=True), put(SETTINGS, chat_template=3)),
        None,
    ),
}
