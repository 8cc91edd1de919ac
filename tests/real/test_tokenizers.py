"""Maps between real tokenizers are exact in bytes, and each tokenizer segments as its original library does."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from lep.core.propagation import fit_projection
from lep.core.vocabulary import TokenKind

pytestmark = pytest.mark.slow

NAMES = ("llama3", "mistral", "qwen", "smollm2", "ru_bpe", "ru_unigram")
PAIRS = list(permutations(NAMES, 2))
LEARNED = (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_segmentations_spell_exactly_the_bytes_of_every_token(real, old, new) -> None:
    """All normal and byte tokens, except for bytes that the old vocabulary has no token for (21 in SmolLM2)."""
    source, target = real.tokenizer(old).vocabulary, real.tokenizer(new).vocabulary
    mapping = real.map(old, new)
    segmentation, offsets = mapping.segmentation.tolist(), mapping.offsets.tolist()
    alphabet = {token[0] for token in source.tokens if len(token) == 1}
    wrong = []
    for id_, (token, kind) in enumerate(zip(target.tokens, target.kinds, strict=True)):
        ids = segmentation[offsets[id_] : offsets[id_ + 1]]
        if kind in LEARNED and b"".join(source.tokens[old_id] for old_id in ids) != token:
            wrong.append((id_, token, ids))
    assert all(not ids and not set(token) <= alphabet for _, token, ids in wrong), wrong[:5]
    assert len(alphabet) == 256 or old == "smollm2"
    assert len(wrong) <= 32


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_shared_tokens_are_exactly_those_equal_in_bytes(real, old, new) -> None:
    source, target = real.tokenizer(old).vocabulary, real.tokenizer(new).vocabulary
    mapping, entries = real.map(old, new), list(zip(source.tokens, source.kinds, strict=True))
    normal = {token for token, kind in entries if kind in LEARNED}
    special = {token for token, kind in entries if kind is TokenKind.SPECIAL}
    expected = [
        token in normal if kind in LEARNED else token in special
        for token, kind in zip(target.tokens, target.kinds, strict=True)
    ]
    assert mapping.shared.tolist() == expected
    shared = mapping.segmentation[mapping.offsets[:-1][mapping.shared]].tolist()
    ids = mapping.shared.nonzero().flatten().tolist()
    assert all(source.tokens[a] == target.tokens[b] for a, b in zip(shared, ids, strict=True))


@pytest.mark.parametrize("name", ["mistral", "ru_bpe", "ru_unigram"])
def test_segmentation_is_sentencepieces_own(real, lines, name) -> None:
    from sentencepiece import SentencePieceProcessor

    tokenizer = real.tokenizer(name)
    processor = SentencePieceProcessor(model_file=str(tokenizer.path))
    differ = [text for text in lines if list(tokenizer.segment(f" {text}".encode())) != processor.encode(text)]
    assert not differ, f"{len(differ)} of {len(lines)} lines, the first: {differ[0]!r}"


def test_llama3s_segmentation_is_tiktokens(real, lines) -> None:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    pattern = (  # From Meta's tokenizer.py.
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = real.tokenizer("llama3")
    ranks = load_tiktoken_bpe(str(tokenizer.path))
    reference = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    differ = [text for text in lines if list(tokenizer.segment(text.encode())) != reference.encode(text)]
    assert not differ, f"{len(differ)} of {len(lines)} lines, the first: {differ[0]!r}"


@pytest.mark.parametrize(("old", "new"), [("llama3", "ru_bpe"), ("mistral", "ru_unigram"), ("smollm2", "llama3")])
def test_conversion_is_numpys_least_squares_on_the_explicit_rows(real, old, new) -> None:
    """T·E by SciPy's sparse product, the projection by NumPy's SVD; docs/mathematics.md#the-fit."""
    from scipy.sparse import csr_array

    mapping, dim = real.map(old, new), 64
    lengths = mapping.lengths.numpy()
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
    shape = (mapping.new_size, mapping.old_size)
    matrix = csr_array((weights, mapping.segmentation.numpy(), mapping.offsets.numpy()), shape=shape)[lengths > 0]
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(mapping.old_size, dim, generator=generator)
    instruct = base + 0.1 * torch.randn(mapping.old_size, dim, generator=generator)
    x, y = matrix @ base.double().numpy(), matrix @ instruct.double().numpy()
    expected = np.linalg.lstsq(x, y, rcond=None)[0]
    projection = fit_projection(base, instruct, mapping, method="conversion")
    solved = projection.delta.numpy() + np.eye(dim)
    assert np.linalg.norm(solved - expected) < 1e-9 * np.linalg.norm(expected)
    assert projection.rows == len(x) and projection.rank == dim
