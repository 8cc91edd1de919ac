"""Base tokenizer + text → tokenizer for the language, with proofs that it is exact."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lep.config import Retokenize
from lep.core.metrics import symbols_per_token
from lep.core.vocabulary import Kind
from lep.data.corpus import heldout_excerpts
from lep.errors import DataError, TokenizerError
from lep.io.model_writer import copy_tokenizer, name_special_tokens
from lep.io.sentencepiece_file import SENTENCEPIECE, write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.progress import note
from lep.tokenization.builders import (
    Draft,
    Wanted,
    bpe_draft,
    extended_draft,
    optimized_draft,
    pieces_draft,
    unigram_draft,
)
from lep.tokenization.merge_continuation import check_merges
from lep.tokenization.validation import Proof, prove, same_in_sentencepiece
from lep.tokenization.word_counts import count_words

PROBE = 200_000
"""Held-out characters a language on which a tokenizer is proved."""

MOST = 300_000
"""Tokens that are learnt before a target of symbols per token decides how many of them are taken."""

Texts = Mapping[str, Sequence[str]]


def run(settings: Retokenize, out: Path) -> dict[str, Any]:
    """Write a folder with the base's tokenizer files and the new tokenizer.json (and tokenizer.model)."""
    base = read_tokenizer(settings.base)
    texts = heldout_excerpts(settings.corpus, settings.mixture, characters=PROBE)
    skipped: Counter[str] = Counter()
    draft = _draft(base, settings, skipped)
    built = draft.build(_count(settings, draft, texts))
    folder = settings.base if settings.base.is_dir() else settings.base.parent
    copy_tokenizer(folder, out, state=built.tokenizer.state)
    name_special_tokens(folder, out)
    new = read_tokenizer(out)
    probes = [text for found in texts.values() for text in found]
    proofs = prove(base, new, kind=settings.kind, expansions=built.expansions, texts=probes)
    proofs += _sentencepiece(base, new, probes)
    if broken := [f"{p.name}: {p.held:,} of {p.of:,}" for p in proofs if p.broken]:
        raise TokenizerError(f"{base.path}: the {settings.kind} tokenizer breaks a promise: {'; '.join(broken)}")
    return _numbers(settings, base, new, texts) | {
        "proofs": [asdict(proof) for proof in proofs],
        "documents_skipped": dict(skipped),
        **draft.facts,
    }


def _draft(base: TokenizerFile, settings: Retokenize, skipped: Counter[str]) -> Draft:
    if settings.pieces:
        return pieces_draft(base, read_tokenizer(settings.pieces))
    if settings.kind in ("extended", "optimized"):
        check_merges(base)
    words = count_words(base, settings.corpus, mixture=settings.mixture, skipped=skipped)
    note(f"learning a vocabulary: {settings.kind}")
    wanted = _wanted(settings)
    if settings.kind == "extended":
        return extended_draft(base, words, wanted)
    if settings.kind == "optimized":
        return optimized_draft(base, words, wanted, keep=settings.kept_tokens or len(base.vocabulary) // 2)
    return (bpe_draft if settings.kind == "bpe" else unigram_draft)(base, words, wanted)


def _wanted(settings: Retokenize) -> Wanted:
    def wanted(fixed: int) -> int:
        if settings.vocabulary_size is None:
            return settings.new_tokens or MOST
        if settings.vocabulary_size <= fixed:
            raise DataError(
                f"vocabulary_size {settings.vocabulary_size} leaves nothing to learn: there are {fixed} tokens anyway"
            )
        return settings.vocabulary_size - fixed

    return wanted


def _count(settings: Retokenize, draft: Draft, texts: Texts) -> int:
    """How many of the learnt tokens are taken."""
    if settings.symbols_per_token:
        return _smallest(settings, draft, texts)
    if settings.pieces and not (settings.vocabulary_size or settings.new_tokens):
        return draft.available
    wanted = _wanted(settings)(draft.fixed)
    if draft.available < wanted:
        raise DataError(
            f"{settings.pieces or 'the text'} yields {draft.available} new tokens of the {wanted} asked for; "
            f"{'ask' if settings.pieces else 'give more text or ask'} for fewer"
        )
    return wanted


def _smallest(settings: Retokenize, draft: Draft, texts: Texts) -> int:
    """The fewest learnt tokens that reach `settings.symbols_per_token` on the mixture's held-out text."""
    shares = settings.mixture or dict.fromkeys(texts, 1.0)

    def reached(count: int) -> float:
        tokenizer = draft.build(count).tokenizer
        tokens = sum(share / _symbols_per_token(tokenizer, texts[language]) for language, share in shares.items())
        return sum(shares.values()) / tokens

    target = settings.symbols_per_token or 0.0
    if (most := reached(draft.available)) < target:
        raise DataError(
            f"{draft.available} new tokens, all that the text yields, reach {most:.2f} symbols per token, not "
            f"{target}; give more text or a lower target"
        )
    return bisect_left(range(draft.available), target, key=reached)


def _sentencepiece(base: TokenizerFile, new: TokenizerFile, probes: Sequence[str]) -> list[Proof]:
    """Write the SentencePiece file of a SentencePiece base that has one, and prove that it says the same."""
    source = base.path.parent / SENTENCEPIECE
    if new.scheme != "sentencepiece" or not source.exists() or Kind.HOLE in new.vocabulary.kinds:
        return []
    file = new.path.parent / SENTENCEPIECE
    write_sentencepiece(source, file, state=new.state)
    return [same_in_sentencepiece(base, new, file, probes)]


def _numbers(settings: Retokenize, base: TokenizerFile, new: TokenizerFile, texts: Texts) -> dict[str, Any]:
    old = set(zip(base.vocabulary.tokens, base.vocabulary.kinds, strict=True))
    kept = sum(entry in old for entry in zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True))
    language = next(iter(settings.mixture or texts))
    return {
        "kind": settings.kind,
        "old_tokens": len(base.vocabulary),
        "kept_tokens": kept,
        "new_tokens": len(new.vocabulary) - kept,
        "vocabulary_size": len(new.vocabulary),
        "symbols_per_token": {
            name: {"before": _symbols_per_token(base, found), "after": _symbols_per_token(new, found)}
            for name, found in texts.items()
        },
        "examples": [_example(base, new, text) for text in texts[language][:3]],
    }


def _symbols_per_token(tokenizer: TokenizerFile, texts: Sequence[str]) -> float:
    encodings = tokenizer.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return symbols_per_token(texts, tokens=sum(len(encoding.ids) for encoding in encodings))


def _example(base: TokenizerFile, new: TokenizerFile, text: str) -> dict[str, Any]:
    text = text[:200]
    return {"text": text, "before": _texts(base, text), "after": _texts(new, text)}


def _texts(tokenizer: TokenizerFile, text: str) -> list[str]:
    """What each token of a text shows; a token that ends inside a character shows its bytes."""
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    tokens = (tokenizer.vocabulary.tokens[id_] for id_ in ids)
    return [token.decode(errors="backslashreplace") for token in tokens]
