"""A tiny base, adapted and instruct model on disk, made without lep."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
OWN = "<|tool|>"
"""An added token of the instruct model alone."""
OLD_WORDS, NEW_WORDS = ("the", " the", "при", " при", "ing"), (" привет", " мир", "language", "ой", " there")
DIM, PADDING = 8, 4
EMBED, HEAD, LAYER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
BYTES = {character: byte for byte, character in CHARACTERS.items()}


@dataclass
class World:
    """Three models in one folder, the settings that name them, and the output folder."""

    root: Path
    settings: dict[str, Any] = field(default_factory=dict)
    means: dict[str, Path] = field(default_factory=dict)
    """Full models that are equivalent to adapters, by setting."""
    patches: dict[str, Any] = field(default_factory=dict)
    """Replacements of system functions, by dotted name."""
    loses: Path | None = None
    """A file that the patches truncate."""

    def __post_init__(self) -> None:
        self.settings = {which: self.root / which for which in ("base", "adapted", "instruct")} | self.settings

    @property
    def out(self) -> Path:
        return Path(self.settings.get("out", self.root / "result"))


def merged(text: str, merges: Sequence[Sequence[str]]) -> list[str]:
    """Apply BPE: the first listed merge that applies, everywhere, until none does."""
    ranks = {tuple(pair): rank for rank, pair in reversed(list(enumerate(merges)))}
    parts = list(text)
    while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
        best, at, joined = min(pairs, key=ranks.__getitem__), 0, []
        while at < len(parts):
            is_best = tuple(parts[at : at + 2]) == best
            joined.append("".join(parts[at : at + 2]) if is_best else parts[at])
            at += 2 if is_best else 1
        parts = joined
    return parts


def byte_level_text(word: str) -> str:
    """Encode a text as byte-level vocabularies store it."""
    return "".join(CHARACTERS[byte] for byte in word.encode())


def with_words(
    merges: Sequence[Sequence[str]], words: Iterable[str], *, spell: Callable[[str], Iterable[str]] = byte_level_text
) -> list[list[str]]:
    """Append merges that make each word one token; some on the way end inside a character."""
    result = [list(pair) for pair in merges]
    for word in words:
        parts = merged("".join(spell(word)), result)
        while len(parts) > 1:
            result.append(parts[:2])
            parts = ["".join(parts[:2]), *parts[2:]]
    return result


def byte_level(words: Iterable[str] = (), *, more: Iterable[str] = (), added: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json: special tokens, bytes, the merges of `words`, then of `more`, then other added tokens."""
    merges = with_words(with_words([], words), more)
    tokens = [*dict.fromkeys([*SPECIAL, *CHARACTERS.values(), *("".join(pair) for pair in merges)])]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ids = {text: id_ for id_, text in enumerate([*tokens, *added]) if text in (*SPECIAL, *added)}
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id_, "content": text} | flags for text, id_ in ids.items()],
        "normalizer": None,
        "pre_tokenizer": part,
        "post_processor": None,
        "decoder": part,
        "model": {"type": "BPE", "vocab": {text: id_ for id_, text in enumerate(tokens)}, "merges": merges},
    }


def sentencepiece(words: Sequence[str] = (), *, more: Sequence[str] = (), added: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json like Llama-2's: characters, merges, and byte fallback."""
    stored = [[word.replace(" ", "▁") for word in part] for part in (words, more)]
    merges = with_words(with_words([], stored[0], spell=list), stored[1], spell=list)
    characters = dict.fromkeys("".join(["▁", *stored[0], *stored[1]]))
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *characters, *("".join(pair) for pair in merges)]
    state = byte_level(added=added)
    special = [item["content"] for item in state["added_tokens"] if item["content"] not in added]
    tokens = dict.fromkeys([*special, *pieces])
    ids = {text: id_ for id_, text in enumerate([*tokens, *added])}
    back = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return state | {
        "added_tokens": [item | {"id": ids[item["content"]]} for item in state["added_tokens"]],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": {"type": "BPE", "byte_fallback": True, "vocab": {t: ids[t] for t in tokens}, "merges": merges},
    }


def with_gap(state: dict[str, Any], at: int) -> dict[str, Any]:
    """Leave id `at` without a token: the ids from there on are one higher."""
    model = state["model"]
    return state | {"model": model | {"vocab": {t: i + (i >= at) for t, i in model["vocab"].items()}}}


def write_tiktoken(folder: Path, words: list[str]) -> None:
    """Write a tiktoken file: the single bytes, then the results of the merges."""
    merges = with_words([], words)
    tokens = [bytes([byte]) for byte in range(256)] + [bytes(BYTES[c] for c in "".join(pair)) for pair in merges]
    folder.mkdir()
    ranked = dict.fromkeys(tokens)
    lines = (base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranked))
    (folder / "tokenizer.model").write_bytes(b"".join(lines))


def make_world(root: Path, *, tied: bool, dtype: torch.dtype, shards: int) -> World:
    """The instruct model is base·P with noise in every weight; it has an added token and padding rows."""
    base, adapted = byte_level(OLD_WORDS), byte_level(OLD_WORDS, more=NEW_WORDS)
    instruct = byte_level(OLD_WORDS, added=[OWN])
    sizes = [len(tokens_of(state)) for state in (base, adapted, instruct)]
    generator = torch.Generator().manual_seed(0)
    noise = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    change = torch.eye(DIM) + 0.3 * noise(DIM, DIM)
    layers = {LAYER: noise(DIM, DIM), "model.norm.weight": noise(DIM)}
    old = {name: noise(sizes[0], DIM) for name in ((EMBED,) if tied else (EMBED, HEAD))}
    new = {name: noise(sizes[1], DIM) + torch.cat([table, table[: sizes[1] - sizes[0]]]) for name, table in old.items()}
    padded = {name: torch.cat([table, noise(sizes[2] - sizes[0] + PADDING, DIM)]) for name, table in old.items()}
    instruct_tensors = {name: table @ change + 0.1 * noise(*table.shape) for name, table in padded.items()}
    instruct_tensors |= {name: tensor + 0.1 * noise(*tensor.shape) for name, tensor in layers.items()}
    states = {"base": base, "adapted": adapted, "instruct": instruct}
    tensors = {"base": layers | old, "adapted": layers | new, "instruct": instruct_tensors}
    for which, state in states.items():
        weights = {name: tensor.to(dtype) for name, tensor in tensors[which].items()}
        weights["model.mask"] = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
        write_model(root / which, state, weights, tied=tied, shards=shards, end=[2, len(tokens_of(instruct)) - 1])
    (root / "instruct" / "README.md").write_text("The model card.\n")
    (root / "text.txt").write_text("привет мир, the language there\n\n" * 4, encoding="utf-8")
    return World(root)


def write_model(
    folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor], *, tied: bool, shards: int, end: list[int]
) -> None:
    """Write the files of a Llama of one layer, with embeddings in the first and in the last shard."""
    folder.mkdir(parents=True)
    rows, dim = tensors[EMBED].shape
    config = {"model_type": "llama", "vocab_size": rows, "hidden_size": dim, "head_dim": 2, "num_attention_heads": 1}
    write(folder / "config.json", config | {"tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": end[0]})
    if folder.name == "instruct":
        write(folder / "generation_config.json", {"eos_token_id": end, "pad_token_id": end[-1], "temperature": 0.7})
        (folder / "chat_template.jinja").write_text("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    write(folder / "tokenizer.json", state)
    write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[0]})
    names = sorted(tensors, key=lambda name: (name != EMBED, name == HEAD, name))
    places = {name: i * shards // len(names) for i, name in enumerate(names)}
    files = [SINGLE] if shards == 1 else [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        save_file({name: tensors[name] for name in names if places[name] == i}, folder / file, {"format": "pt"})
    if shards > 1:
        write(folder / INDEX, {"metadata": {}, "weight_map": {name: files[i] for name, i in places.items()}})


def tokens_of(state: Mapping[str, Any]) -> dict[int, tuple[bytes, bool]]:
    """Bytes of each id of a byte-level tokenizer.json, and whether it is special."""
    vocab, unknown = state["model"]["vocab"], state["model"].get("unk_token")
    added = {item["id"]: item["content"] for item in state["added_tokens"]}
    added |= {vocab[unknown]: unknown} if unknown in vocab else {}
    learned = {id_: bytes(BYTES[c] for c in text) for text, id_ in vocab.items() if id_ not in added}
    return {id_: (token, False) for id_, token in learned.items()} | {
        id_: (text.encode(), True) for id_, text in added.items()
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
