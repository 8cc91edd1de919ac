"""Invariants of every propagation, over random tokenizers and models.

Each family has vocabularies of one kind (byte-level, SentencePiece-like, tiktoken), with gaps in the ids, special
tokens and tokens that end inside a character; embeddings of any width, dtype, padding, tied or not, in one to three
files.
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

from lep.config import PropagateSettings
from lep.core.propagation import METHODS
from lep.core.vocabulary import TokenKind, VocabularyMap
from lep.io.safetensors_files import open_checkpoint
from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix
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
    with_gap,
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
    """The segmentation of a token by merges alone."""
    merges = old.merges
    if old.scheme == "byte_level":
        parts = merged("".join(CHARACTERS[byte] for byte in token), merges)
        return [bytes(BYTES[character] for character in part) for part in parts]
    stored_tokens, pieces = old.stored_tokens, []
    for part in merged(token.decode().replace(" ", "▁"), merges):
        text = part.replace("▁", " ").encode()
        pieces += [text] if part in stored_tokens else [bytes([byte]) for byte in text]
    return pieces


@FAST
@given(WORDS, WORDS, st.sampled_from([*STATES, "tiktoken"]), st.booleans())
def test_a_segmentation_spells_exactly_the_bytes_of_the_token(old_words, new_words, kind: str, related: bool) -> None:
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
    old_entries = set(zip(old.vocabulary.tokens, old.vocabulary.kinds, strict=True))
    for id_, (token, kind) in enumerate(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True)):
        pieces = mapped.segmentation[mapped.offsets[id_] : mapped.offsets[id_ + 1]].tolist()
        segments = [old.vocabulary.tokens[piece] for piece in pieces]
        if (token, kind) in old_entries and token:
            assert bool(mapped.shared[id_]) and segments == [token]
        elif kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK):
            assert b"".join(segments) == token
            assert segments == [token] or not old.is_single_pre_token(token) or segments == bpe(token, old)
        else:
            assert not segments


@dataclass
class Family:
    """Three models on disk with random weights, in the drawn dtypes, paddings and files, tied or not."""

    root: Path
    tied: dict[str, bool]

    def embeddings(self, which: str) -> dict[str, Tensor]:
        stored = tensors_of(self.root / which)
        return {name: stored.get(name, stored[EMBED]) for name in (EMBED, HEAD)}

    def tokenizer(self, which: str) -> TokenizerFile:
        return read_tokenizer(self.root / which)

    def run(self, out: str = "out", **more: Any) -> dict[str, Tensor]:
        """All tensors of the result; tied embeddings are returned under both names."""
        models = {which: self.root / which for which in ("base", "adapted", "instruct")}
        (self.root / out).mkdir()
        propagate.run(PropagateSettings(**models | more), self.root / out)
        stored = tensors_of(self.root / out)
        return stored | {HEAD: stored.get(HEAD, stored[EMBED])}


@st.composite
def families(draw: st.DrawFn, *, dtypes: st.SearchStrategy[torch.dtype] = DTYPES) -> Callable[[Path], Family]:
    """`make(folder)`: sometimes the adapted vocabulary has a gap in its ids, or the instruct one an added token."""
    kind, old, new = STATES[draw(st.sampled_from([*STATES]))], draw(WORDS), draw(WORDS)
    added = draw(st.sampled_from([[], ["<tool>"]]))
    states = {"base": kind(old), "adapted": kind(old, more=new), "instruct": kind(old, added=added)}
    if draw(st.booleans()):
        states["adapted"] = with_gap(states["adapted"], len(states["base"]["model"]["vocab"]) - 1)
    dim, seed = draw(st.sampled_from([1, 2, 3, 5, 12])), draw(st.integers(0, 99))
    layouts = st.tuples(st.booleans(), dtypes, st.integers(0, 3), st.integers(1, 3))
    drawn = {which: draw(layouts) for which in states}

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
        return Family(root, {which: layouts[0] for which, layouts in drawn.items()})

    return make


def dense(mapped: VocabularyMap, table: Tensor) -> np.ndarray:
    """T·E with a dense T; zeros for tokens without a segmentation."""
    t = np.zeros((mapped.new_size, len(table)))
    for id_ in range(mapped.new_size):
        pieces = mapped.segmentation[mapped.offsets[id_] : mapped.offsets[id_ + 1]].tolist()
        for piece in pieces:
            t[id_, piece] += 1 / len(pieces)
    return t @ table.double().numpy()


def close(propagated: Tensor, reference: Tensor, *, start: Tensor) -> bool:
    """Whether two matrices agree within rounding, relative to the largest row of the result or of its source."""
    scale = torch.cat([reference.double(), start.double()]).norm(dim=1).max()
    exact = start.dtype in (torch.float64, torch.float32)
    bound = TOLERANCE[propagated.dtype] if exact else max(TOLERANCE[propagated.dtype], TOLERANCE[torch.float32])
    return bool((propagated.double() - reference.double()).norm(dim=1).max() <= bound * scale)


def check_independent_of_p(family: Family, propagated: dict[str, Tensor], out: str = "out") -> Tensor:
    """Check what holds for any P; returns the ids of learned tokens in the result."""
    own, new, result = family.tokenizer("instruct"), family.tokenizer("adapted"), read_tokenizer(family.root / out)
    instruct = tensors_of(family.root / "instruct")
    tied = family.tied["adapted"] and family.tied["instruct"]
    assert (HEAD in tensors_of(family.root / out)) is not tied
    assert read(family.root / out / "config.json")["tie_word_embeddings"] is tied
    for name in propagated.keys() - {EMBED, HEAD}:
        assert raw(propagated[name]) == raw(instruct[name]) and propagated[name].dtype == instruct[name].dtype
    for name, table in family.embeddings("instruct").items():
        assert propagated[name].dtype == table.dtype and propagated[name].isfinite().all()
        for text, id_ in own.added_tokens.items():
            assert raw(propagated[name][result.added_tokens[text]]) == raw(table[id_])
        learned = [
            i for i, kind in enumerate(new.vocabulary.kinds) if kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK)
        ]
        assert (propagated[name][learned] != 0).any(dim=1).all()
    assert result.vocabulary.tokens[: len(new.vocabulary)] == new.vocabulary.tokens
    return torch.tensor(learned)


def expected(family: Family, mapped: VocabularyMap, *, name: str) -> dict[str, Tensor]:
    """The table by method, from T at once."""
    base, adapted, instruct = (family.embeddings(which)[name] for which in ("base", "adapted", "instruct"))
    rows = min(len(base), len(instruct))
    x, y = dense(mapped, base[:rows]), dense(mapped, instruct[:rows])
    seen = {"overlap": mapped.shared.numpy(), "conversion": (mapped.lengths > 0).numpy()}
    deltas = {method: np.linalg.lstsq(x[ids], (y - x)[ids], rcond=None)[0] for method, ids in seen.items()}
    turned = {method: adapted.double() @ torch.from_numpy(delta) for method, delta in deltas.items()}
    return {"swap": adapted.double()} | {method: adapted.double() + rows for method, rows in turned.items()}


@FAST
@given(families(), st.sampled_from([*METHODS, "auto"]), st.sampled_from([1, 40, 1 << 24]))
def test_the_result_is_that_of_a_dense_t_in_any_blocks_and_only_embeddings_are_read(make, method, block) -> None:
    accessed: set[tuple[Path, int]] = set()
    original = StoredEmbeddingMatrix.__getitem__

    def record_access(rows: StoredEmbeddingMatrix, ids: Any) -> Tensor:
        accessed.add((rows.info.shard, rows.info.begin))
        return original(rows, ids)

    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        with (
            patch("lep.core.embedding_matrix.BLOCK_ELEMENTS", block),
            patch.object(StoredEmbeddingMatrix, "__getitem__", record_access),
        ):
            propagated = family.run(method=method)
        assert accessed <= {
            place for which in ("base", "adapted", "instruct", "out") for place in places(family.root / which)
        }
        learned = check_independent_of_p(family, propagated)
        mapped = map_vocabularies(family.tokenizer("base"), family.tokenizer("adapted"))
        for name in tensors_of(family.root / "out").keys() & {EMBED, HEAD}:
            reference = expected(family, mapped, name=name)
            methods = METHODS if method == "auto" else [method]
            start = family.embeddings("adapted")[name]
            assert any(close(propagated[name][learned], reference[key][learned], start=start) for key in methods)


def places(model: Path) -> list[tuple[Path, int]]:
    """Where the tables of a model lie."""
    entries = open_checkpoint(model).entries
    return [(entries[name].shard, entries[name].begin) for name in (EMBED, HEAD) if name in entries]


@FAST
@given(families(), st.sampled_from(METHODS))
def test_propagation_into_the_base_returns_the_adapted_rows_bit_for_bit(make, method) -> None:
    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        shutil.rmtree(family.root / "instruct")
        (family.root / "instruct").symlink_to("base")
        family.tied["instruct"] = family.tied["base"]
        propagated = family.run(method=method)
        learned = check_independent_of_p(family, propagated)
        for name, adapted in family.embeddings("adapted").items():
            assert raw(propagated[name][learned]) == raw(adapted[learned].to(propagated[name].dtype))


@FAST
@given(families(dtypes=st.just(torch.float64)), st.sampled_from(["overlap", "conversion"]))
def test_an_exact_linear_change_is_recovered(make, method) -> None:
    """adapted = T·E_base and E_instruct = E_base·P ⇒ propagated = T·E_instruct, on what the fit saw, of any rank."""
    with tempfile.TemporaryDirectory() as folder:
        family = make(Path(folder))
        mapped = map_vocabularies(family.tokenizer("base"), family.tokenizer("adapted"))
        base, rows = family.embeddings("base")[EMBED], len(family.tokenizer("base").vocabulary)
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
        propagated = family.run(method=method)
        ids = check_independent_of_p(family, propagated)
        ids = ids[(mapped.shared if method == "overlap" else mapped.lengths > 0)[ids]]
        reference = torch.from_numpy(dense(mapped, base[:rows] @ p))
        for name in (EMBED, HEAD):
            assert torch.allclose(propagated[name][ids], reference[ids], atol=1e-8)


@FAST
@given(families(dtypes=st.just(torch.float32)), st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_permuting_the_new_vocabulary_permutes_the_rows(make, method, chance) -> None:
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
