"""Base tokenizer + corpus → tokenizer for the language, with proofs that it is exact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lep.config import Retokenize
from lep.core.metrics import symbols_per_token
from lep.engine.extension import Extension, extend
from lep.errors import TokenizerError
from lep.io.checkpoint import copy_tokenizer
from lep.io.corpus import corpus_documents, corpus_languages, heldout_excerpt
from lep.io.tokenizer_files import TokenizerFile, read_tokenizer

PROBE = 200_000
"""Held-out characters a language on which a tokenizer is proved."""


def run(settings: Retokenize, out: Path) -> dict[str, Any]:
    """Write a folder with the base's tokenizer files and the extended tokenizer.json."""
    base = read_tokenizer(settings.base)
    documents = corpus_documents(settings.corpus, settings.language, "train")
    extension = extend(base, documents, new_tokens=settings.new_tokens)
    folder = settings.base if settings.base.is_dir() else settings.base.parent
    copy_tokenizer(folder, out, state=extension.state)
    new = read_tokenizer(out)
    probes = {
        language: heldout_excerpt(settings.corpus, language, characters=PROBE)
        for language in corpus_languages(settings.corpus)
    }
    proofs = prove(base, new, extension, texts=[text for texts in probes.values() for text in texts])
    return {
        "kind": settings.kind,
        "old_tokens": len(base.vocabulary),
        "new_tokens": settings.new_tokens,
        "vocabulary_size": len(new.vocabulary),
        "merges_dropped": extension.dropped,
        "symbols_per_token": {
            language: {"before": _symbols_per_token(base, texts), "after": _symbols_per_token(new, texts)}
            for language, texts in probes.items()
        },
        "proofs": proofs,
        "examples": [_example(base, new, text) for text in probes[settings.language][:3]],
    }


def prove(base: TokenizerFile, new: TokenizerFile, extension: Extension, *, texts: Sequence[str]) -> dict[str, Any]:
    """What an extension promises, checked.

    Raises:
        TokenizerError: a promise does not hold.
    """
    old_encodings = base.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    new_encodings = new.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    expanded = [
        [old for id_ in encoding.ids for old in extension.expansions.get(id_, (id_,))] for encoding in new_encodings
    ]
    decodes = base.tokenizer.decode_batch([e.ids for e in old_encodings], skip_special_tokens=False)
    redecodes = new.tokenizer.decode_batch([e.ids for e in new_encodings], skip_special_tokens=False)
    old_size = len(base.vocabulary)
    proofs = {
        "old_ids_unchanged": list(new.vocabulary.tokens[:old_size]) == list(base.vocabulary.tokens)
        and list(new.vocabulary.kinds[:old_size]) == list(base.vocabulary.kinds),
        "unreachable_new_tokens": sum(list(new.segment(new.vocabulary.tokens[t])) != [t] for t in extension.expansions),
        "texts_probed": len(texts),
        "base_ids_recovered": sum(a.ids == b for a, b in zip(old_encodings, expanded, strict=True)),
        "round_trips": sum(a == b for a, b in zip(decodes, redecodes, strict=True)),
    }
    whole = {"old_ids_unchanged": True, "unreachable_new_tokens": 0}
    whole |= {"base_ids_recovered": len(texts), "round_trips": len(texts)}
    if failed := [
        f"{name} = {proofs[name]}, expected {value}" for name, value in whole.items() if proofs[name] != value
    ]:
        raise TokenizerError(f"{base.path}: the extended tokenizer breaks a promise: {'; '.join(failed)}")
    return proofs


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
