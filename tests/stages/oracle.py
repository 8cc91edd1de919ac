"""The expected result of a propagation by independent means: json, safetensors, ten lines of BPE, NumPy's lstsq.

T is dense, all rows are fitted at once, in float64: docs/mathematics.md#the-fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from .family import BYTES, CHARACTERS, EMBED, HEAD, INDEX, SINGLE, World, merged, read, tokens_of

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def check_result(world: World) -> None:
    """Check that `out` is the instruct model with propagated embeddings and the adapted tokenizer, and nothing else."""
    world = replace(world, settings=world.settings | world.means)
    result, instruct = tensors_of(world.out), tensors_of(world.settings["instruct"])
    expected = expected_embeddings(world)
    if world.settings.get("method") == "auto":
        chosen = read(world.out / "manifest.json")["result"]["fits"]
        methods = {EMBED: chosen["embed"]["method"], HEAD: chosen.get("head", chosen["embed"])["method"]}
        by_method = {
            m: expected_embeddings(replace(world, settings=world.settings | {"method": m})) for m in methods.values()
        }
        expected = {name: by_method[methods[name]][name] for name in expected}
    assert result.keys() == (instruct.keys() | expected.keys()) - ({HEAD} - expected.keys())
    for name, tensor in result.items():
        if name not in expected:
            assert tensor.dtype == instruct[name].dtype, name
            assert raw(tensor) == raw(instruct[name]) or (world.means and torch.allclose(tensor, instruct[name])), name
            continue
        error = (tensor.double() - expected[name]).norm(dim=1) / expected[name].norm(dim=1).clamp(min=1e-30)
        assert tensor.dtype == instruct[name if name in instruct else EMBED].dtype
        assert error.max() < TOLERANCE[tensor.dtype], (name, int(error.argmax()), float(error.max()))
    check_files(world, rows=len(result[EMBED]), tied=HEAD not in result)


def check_files(world: World, *, rows: int, tied: bool) -> None:
    """Check that configuration, ids and tokenizer agree with the embeddings."""
    adapted, instruct = (read(world.settings[which] / "tokenizer.json") for which in ("adapted", "instruct"))
    new, own, result = tokens_of(adapted), tokens_of(instruct), tokens_of(read(world.out / "tokenizer.json"))
    assert {id_: result[id_] for id_ in new} == new
    assert {(item["content"].encode(), True) for item in instruct["added_tokens"]} <= set(result.values())
    config, before = read(world.out / "config.json"), read(world.settings["instruct"] / "config.json")
    assert config["vocab_size"] == rows > max(result)
    assert tied is bool(config.get("tie_word_embeddings")) or before.get("tie_word_embeddings") is None
    for name in ("config.json", "generation_config.json"):
        if (world.settings["instruct"] / name).is_file():
            pairs = zip(
                *(ids_of(read(folder / name)) for folder in (world.settings["instruct"], world.out)), strict=True
            )
            assert all(own[a][0] == result[b][0] for a, b in pairs), name


def ids_of(config: Mapping[str, Any]) -> list[int]:
    """The token ids of a configuration, in order."""
    values = [config[key] for key in sorted(config) if key.endswith("_token_id")]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors that the folder's index names, or its single file holds."""
    files = sorted(set(read(folder / INDEX)["weight_map"].values())) if (folder / INDEX).exists() else [SINGLE]
    return {name: tensor for file in files for name, tensor in load_file(folder / file).items()}


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def segmentation_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[int, list[int]]:
    """T by rows: old ids that spell each new token; special tokens have only themselves."""
    by_token = {token: id_ for id_, token in sorted(tokens_of(old).items(), reverse=True)}
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in old["model"]["merges"]]
    rows = {}
    for id_, (token, special) in sorted(tokens_of(new).items()):
        if (token, special) in by_token:
            rows[id_] = [by_token[token, special]]
        elif not special:
            parts = merged("".join(CHARACTERS[byte] for byte in token), merges)
            ids = [by_token.get((bytes(BYTES[c] for c in part), False)) for part in parts]
            rows |= {id_: ids} if ids and None not in ids else {}
    return rows


def expected_embeddings(world: World) -> dict[str, Tensor]:
    """Both embedding matrices of the result in float64, or the one of a tied result."""
    old, new, own = (read(world.settings[which] / "tokenizer.json") for which in ("base", "adapted", "instruct"))
    base, adapted, instruct = (tensors_of(world.settings[which]) for which in ("base", "adapted", "instruct"))
    special = {item["content"].encode(): item["id"] for item in own["added_tokens"]}
    result = {text: id_ for id_, (text, is_special) in tokens_of(new).items() if is_special}
    lacking = [text for text in special if text not in result]
    result |= {text: 1 + max(tokens_of(new)) + i for i, text in enumerate(lacking)}
    tables = {}
    for name in (EMBED, HEAD) if HEAD in adapted or HEAD in instruct else (EMBED,):
        e_base, e_new, e_own = (tensors.get(name, tensors[EMBED]).double() for tensors in (base, adapted, instruct))
        p = projection(world, e_base, e_own, moved={text for text in result if is_moved(old, own, text)})
        rows = torch.cat([e_new @ p, torch.zeros(max(0, 1 + max(result.values()) - len(e_new)), e_new.shape[1])])
        for text, id_ in special.items():
            rows[result[text]] = e_own[id_]
        tables[name] = rows
    return tables


def is_moved(old: Mapping[str, Any], own: Mapping[str, Any], text: bytes) -> bool:
    """Whether the instruct model has another token at the id of this special token of the base."""
    id_ = next((id_ for id_, token in tokens_of(old).items() if token == (text, True)), None)
    return id_ is not None and tokens_of(own).get(id_) != (text, True)


def weights_of(world: World) -> Tensor:
    """1 + how often each new token occurs in the corpus, counted by the tokenizers library."""
    tokenizer = Tokenizer.from_file(str(world.settings["adapted"] / "tokenizer.json"))
    counts = torch.ones(1 + max(tokens_of(read(world.settings["adapted"] / "tokenizer.json"))), dtype=torch.float64)
    for file in Path(world.settings.get("corpus", "/nowhere")).glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            for id_ in tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids:
                counts[id_] += 1
    return counts


def projection(world: World, base: Tensor, instruct: Tensor, *, moved: set[bytes]) -> Tensor:
    """P = I + argmin ‖XΔ − (Y − X)‖² + λ‖Δ‖², of minimum norm."""
    method, ridge = world.settings.get("method", "conversion"), float(world.settings.get("ridge", 0))
    old, new = (read(world.settings[which] / "tokenizer.json") for which in ("base", "adapted"))
    tokens, dim = tokens_of(new), base.shape[1]
    rows = {
        id_: row for id_, row in segmentation_of(old, new).items() if not (tokens[id_][1] and tokens[id_][0] in moved)
    }
    if method == "overlap":
        old_tokens = set(tokens_of(old).values())
        rows = {id_: row for id_, row in rows.items() if tokens[id_] in old_tokens}
    if method == "swap":
        return torch.eye(dim, dtype=torch.float64)
    t = torch.zeros(len(rows), len(base), dtype=torch.float64)
    for place, row in enumerate(rows.values()):
        for id_ in row:
            t[place, id_] += 1 / len(row)
    used = t.any(dim=0).nonzero().flatten()
    root = weights_of(world)[list(rows)].sqrt()[:, None]
    x, y = (np.asarray(root * (t[:, used] @ table[used])) for table in (base, instruct))
    x_ridge = np.concatenate([x, ridge**0.5 * np.eye(dim)]) if ridge else x
    d = np.concatenate([y - x, np.zeros((dim, dim))]) if ridge else y - x
    delta = np.linalg.lstsq(x_ridge, d, rcond=None)[0]
    return torch.eye(dim, dtype=torch.float64) + torch.from_numpy(delta)
