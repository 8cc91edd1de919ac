"""Over tokenizers and models by chance: what must hold of every propagation (DESIGN, "Docstrings and tests").

Each family has vocabularies of one kind (byte-level, SentencePiece-like, tiktoken), with holes, special tokens and
tokens that end inside a character; tables of any width, dtype, padding and tie, in one to three files.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lep.config import Propagate
from lep.core.propagation import METHODS
from lep.core.vocabulary import Kind, VocabularyMap
from lep.io.safetensors_files import open_checkpoint
from lep.io.stored_rows import StoredRows
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.stages import propagate

from . import edits
from .family import (
    BYTES,
    CHARACTERS,
    EMBED,
    HEAD,
    LAYER,
    byte_level,
    merged,
    read,
    sentencepiece,
    with_hole,
    write,
    write_model,
    write_tiktoken,
)
from .oracle import TOLERANCE, raw, tensors_of

WORDS = st.lists(st.text("ab é🙂дп1", min_size=1, max_size=4), max_size=5)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
FAST = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


STATES = {"byte-level": byte_level, "sentencepiece": sentencepiece}


def bpe(token: bytes, old: TokenizerFile) -> list[bytes]:
    """The pieces of a token, by merges alone."""
    merges = old.merges
    if old.scheme == "byte_level":
        parts = merged("".join(CHARACTERS[byte] for byte in token), merges)
        return [bytes(BYTES[character] for character in part) for part in parts]
    known, found = old.stored_pieces, []
    for part in merged(token.decode().replace(" ", "▁"), merges):
        text = part.replace("▁", " ").encode()
        found += [text] if part in known else [bytes([byte]) for byte in text]
    return found


@FAST
@given(WORDS, WORDS, st.sampled_from([*STATES, "tiktoken"]), st.booleans())
def test_pieces_spell_exactly_the_bytes_of_the_token(old_words, new_words, kind: str, related: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name, "old"), Path(name, "new")
        for folder, words in zip(folders, (old_words, [*(old_words if related else ()), *new_words]), strict=True):
            if kind == "tiktoken":
                write_tiktoken(folder, words)
            else:
                folder.mkdir()
                write(folder / "tokenizer.json", STATES[kind](words))
        old, new = map(read_tokenizer, folders)
        check_map(old, new, map_vocabularies(old, new))


def check_map(old: TokenizerFile, new: TokenizerFile, mapped: VocabularyMap) -> None:
    known = set(zip(old.vocabulary.tokens, old.vocabulary.kinds, strict=True))
    for id_, (token, kind) in enumerate(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True)):
        pieces = mapped.pieces[mapped.offsets[id_] : mapped.offsets[id_ + 1]].tolist()
        spelt = [old.vocabulary.tokens[piece] for piece in pieces]
        if (token, kind) in known and token:
            assert bool(mapped.shared[id_]) and spelt == [token]
        elif kind in (Kind.NORMAL, Kind.BYTE):
            assert b"".join(spelt) == token
            assert spelt == [token] or not old.is_word(token) or spelt == bpe(token, old)
        else:
            assert not spelt


@dataclass
class Family:
    """Three models on disk, of random numbers, in the dtypes, ties, paddings and files that were drawn."""

    root: Path
    tied: dict[str, bool]

    def tables(self, which: str) -> dict[str, Tensor]:
        stored = tensors_of(self.root / which)
        return {name: stored.get(name, stored[EMBED]) for name in (EMBED, HEAD)}

    def tokenizer(self, which: str) -> TokenizerFile:
        return read_tokenizer(self.root / which)

    def run(self, out: str = "out", **more: Any) -> dict[str, Tensor]:
        """All tensors of the result, whose tables count as two."""
        models = {which: self.root / which for which in ("base", "adapted", "instruct")}
        (self.root / out).mkdir()
        propagate.run(Propagate(**models | more), self.root / out)
        found = tensors_of(self.root / out)
        return found | {HEAD: found.get(HEAD, found[EMBED])}


@st.composite
def families(draw: st.DrawFn, *, dtypes: st.SearchStrategy[torch.dtype] = DTYPES) -> Callable[[Path], Family]:
    """`make(folder)`: the adapted vocabulary has a hole, the instruct one a token of its own, at times."""
    kind, old, new = STATES[draw(st.sampled_from([*STATES]))], draw(WORDS), draw(WORDS)
    own = draw(st.sampled_from([[], ["<tool>"]]))
    states = {"base": kind(old), "adapted": kind(old, more=new), "instruct": kind(old, added=own)}
    if draw(st.booleans()):
        states["adapted"] = with_hole(states["adapted"], len(states["base"]["model"]["vocab"]) - 1)
    dim, seed = draw(st.sampled_from([1, 2, 3, 5, 12])), draw(st.integers(0, 99))
    knobs = st.tuples(st.booleans(), dtypes, st.integers(0, 3), st.integers(1, 3))
    drawn = {which: draw(knobs) for which in states}

    def make(root: Path) -> Family:
        chance = torch.Generator().manual_seed(seed)
        layers = {LAYER: torch.randn(dim, dim, generator=chance), "model.norm.weight": torch.ones(dim)}
        for which, (tied, dtype, padding, shards) in drawn.items():
            added = (item["id"] for item in states[which]["added_tokens"])
            rows = 1 + max([*states[which]["model"]["vocab"].values(), *added]) + padding
            stored = [EMBED] if tied else [EMBED, HEAD]
            tensors = layers | {name: torch.randn(rows, dim, generator=chance) for name in stored}
            tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
            tensors["model.mask"] = torch.tensor([1, 0], dtype=torch.uint8)
            write_model(root / which, states[which], tensors, tied=tied, shards=shards, end=[2])
        return Family(root, {which: knobs[0] for which, knobs in drawn.items()})

    return make


def dense(mapped: VocabularyMap, table: Tensor) -> np.ndarray:
    """T·E, T written out; zeros for tokens without pieces."""
    t = np.zeros((mapped.new_size, len(table)))
    for id_ in range(mapped.new_size):
        pieces = mapped.pieces[mapped.offsets[id_] : mapped.offsets[id_ + 1]].tolist()
        for piece in pieces:
            t[id_, piece] += 1 / len(pieces)
    return t @ table.double().numpy()


def close(found: Tensor, wanted: Tensor, *, start: Tensor) -> bool:
    """Within the rounding of the dtypes, by the largest row of the result or of the table that it comes from."""
    scale = torch.cat([wanted.double(), start.double()]).norm(dim=1).max()
    exact = start.dtype in (torch.float64, torch.float32)
    bound = TOLERANCE[found.dtype] if exact else max(TOLERANCE[found.dtype], TOLERANCE[torch.float32])
    return bool((found.double() - wanted.double()).norm(dim=1).max() <= bound * scale)


def check_all_else(family: Family, found: dict[str, Tensor], out: str = "out") -> Tensor:
    """What holds whatever P is; returns the ids of learnt tokens in the result."""
    own, new, result = family.tokenizer("instruct"), family.tokenizer("adapted"), read_tokenizer(family.root / out)
    instruct = tensors_of(family.root / "instruct")
    tied = family.tied["adapted"] and family.tied["instruct"]
    assert (HEAD in tensors_of(family.root / out)) is not tied
    assert read(family.root / out / "config.json")["tie_word_embeddings"] is tied
    for name in found.keys() - {EMBED, HEAD}:
        assert raw(found[name]) == raw(instruct[name]) and found[name].dtype == instruct[name].dtype
    for name, table in family.tables("instruct").items():
        assert found[name].dtype == table.dtype and found[name].isfinite().all()
        for text, id_ in own.added.items():
            assert raw(found[name][result.added[text]]) == raw(table[id_])
        learnt = [i for i, kind in enumerate(new.vocabulary.kinds) if kind in (Kind.NORMAL, Kind.BYTE)]
        assert (found[name][learnt] != 0).any(dim=1).all()
    assert result.vocabulary.tokens[: len(new.vocabulary)] == new.vocabulary.tokens
    return torch.tensor(learnt)


def expected(family: Family, mapped: VocabularyMap, *, name: str) -> dict[str, Tensor]:
    """The table by method, from T at once."""
    base, adapted, instruct = (family.tables(which)[name] for which in ("base", "adapted", "instruct"))
    rows = min(len(base), len(instruct))
    x, y = dense(mapped, base[:rows]), dense(mapped, instruct[:rows])
    seen = {"overlap": mapped.shared.numpy(), "conversion": (mapped.lengths > 0).numpy()}
    deltas = {method: np.linalg.lstsq(x[ids], (y - x)[ids], rcond=None)[0] for method, ids in seen.items()}
    turned = {method: adapted.double() @ torch.from_numpy(delta) for method, delta in deltas.items()}
    return {"swap": adapted.double()} | {method: adapted.double() + rows for method, rows in turned.items()}


@FAST
@given(families(), st.sampled_from([*METHODS, "auto"]), st.sampled_from([1, 40, 1 << 24]))
def test_it_is_what_a_dense_t_gives_in_blocks_or_at_once_and_only_tables_are_read(make, method, block) -> None:
    touched: set[tuple[Path, int]] = set()
    original = StoredRows.__getitem__

    def watched(rows: StoredRows, ids: Any) -> Tensor:
        touched.add((rows.entry.shard, rows.entry.begin))
        return original(rows, ids)

    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        with patch("lep.core.table_rows.BLOCK", block), patch.object(StoredRows, "__getitem__", watched):
            found = family.run(method=method)
        assert touched <= {
            place for which in ("base", "adapted", "instruct", "out") for place in places(family.root / which)
        }
        learnt = check_all_else(family, found)
        mapped = map_vocabularies(family.tokenizer("base"), family.tokenizer("adapted"))
        for name in tensors_of(family.root / "out").keys() & {EMBED, HEAD}:
            wanted = expected(family, mapped, name=name)
            methods = METHODS if method == "auto" else [method]
            start = family.tables("adapted")[name]
            assert any(close(found[name][learnt], wanted[key][learnt], start=start) for key in methods)


def places(model: Path) -> list[tuple[Path, int]]:
    """Where the tables of a model lie."""
    entries = open_checkpoint(model).entries
    return [(entries[name].shard, entries[name].begin) for name in (EMBED, HEAD) if name in entries]


@FAST
@given(families(), st.sampled_from(METHODS))
def test_into_the_base_itself_the_adapted_rows_come_back_bit_by_bit(make, method) -> None:
    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        shutil.rmtree(family.root / "instruct")
        (family.root / "instruct").symlink_to("base")
        family.tied["instruct"] = family.tied["base"]
        found = family.run(method=method)
        learnt = check_all_else(family, found)
        for name, adapted in family.tables("adapted").items():
            assert raw(found[name][learnt]) == raw(adapted[learnt].to(found[name].dtype))


@FAST
@given(families(dtypes=st.just(torch.float64)), st.sampled_from(["overlap", "conversion"]))
def test_an_exact_linear_change_is_recovered(make, method) -> None:
    """adapted = T·E_base and E_instruct = E_base·P ⇒ propagated = T·E_instruct, on what the fit saw, of any rank."""
    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        mapped = map_vocabularies(family.tokenizer("base"), family.tokenizer("adapted"))
        base, rows = family.tables("base")[EMBED], len(family.tokenizer("base").vocabulary)
        p = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[
            : base.shape[1], : base.shape[1]
        ]
        for which, tied in family.tied.items():
            table = (
                torch.from_numpy(dense(mapped, base))
                if which == "adapted"
                else base[:rows] @ p
                if which == "instruct"
                else base
            )
            for name in (EMBED,) if tied else (EMBED, HEAD):
                edits.table(lambda old, table=table: torch.cat([table, old[len(table) :]]), name)(family.root / which)
        found = family.run(method=method)
        ids = check_all_else(family, found)
        ids = ids[(mapped.shared if method == "overlap" else mapped.lengths > 0)[ids]]
        wanted = torch.from_numpy(dense(mapped, base[:rows] @ p))
        for name in (EMBED, HEAD):
            assert torch.allclose(found[name][ids], wanted[ids], atol=1e-8)


@FAST
@given(families(dtypes=st.just(torch.float32)), st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_new_ids_in_another_order_are_rows_in_that_order(make, method, chance) -> None:
    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        before, state = family.run("before", method=method), read(family.root / "adapted" / "tokenizer.json")
        special = {item["content"] for item in state["added_tokens"]}
        ids = [id_ for text, id_ in state["model"]["vocab"].items() if text not in special]
        moved = dict(zip(ids, chance.sample(ids, len(ids)), strict=True))
        edits.vocab(lambda vocab: {text: moved.get(id_, id_) for text, id_ in vocab.items()})(family.root / "adapted")
        places = torch.tensor([*moved.values()])
        for name in (EMBED,) if family.tied["adapted"] else (EMBED, HEAD):
            edits.table(lambda old: old.index_copy(0, places, old[ids]), name)(family.root / "adapted")
        after = family.run("after", method=method)
        for name in (EMBED, HEAD):
            assert close(after[name][places], before[name][ids], start=before[name])
