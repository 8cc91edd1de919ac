"""What vLLM and llama.cpp's converter will say of the folder, by the rules in their sources."""

from __future__ import annotations

from collections.abc import Iterator

from lep.core.vocabulary import Kind, Vocabulary
from lep.gguf.known_pre_tokenizers import CHECK_TEXT, HASHES, PATTERNS, SAME, check_hash, known_as, patterns
from lep.inspection.findings import Fact, Finding, Folder, Problem, Remark, counted, few, language_config
from lep.inspection.loading import GROUP
from lep.io.sentencepiece_file import SENTENCEPIECE, is_tiktoken
from lep.io.tokenizer_file import read_tokenizer

PADDING = 64
"""vLLM rounds the rows of a table up to a multiple of this: model_executor/layers/vocab_parallel_embedding.py."""

_PLACE = "get_vocab_base_pre in llama.cpp's conversion/base.py (convert_hf_to_gguf.py in older versions)"
_LLAMA_CPP = "llama.cpp"


def vllm(folder: Folder) -> Iterator[Finding]:
    """vLLM wants as many rows as vocab_size says, and pads them itself."""
    rows = len(folder.model.tables()["embed"])
    said = language_config(folder.json("config.json")).get("vocab_size", rows)
    if said != rows:
        yield Fact(GROUP, "vLLM", f"stops: vocab_size says {said:,} rows, the table has {rows:,}")
    elif not (spare := -rows % PADDING):
        yield Fact(GROUP, "vLLM", f"takes the {rows:,} rows as they are, a multiple of {PADDING}")
    else:
        yield Fact(GROUP, "vLLM", f"pads {rows:,} rows to {rows + spare:,}, a multiple of {PADDING}, by itself")


def llama_cpp(folder: Folder) -> Iterator[Finding]:
    """What the converter does with this sort of tokenizer; ids without a token become unused ones by themselves."""
    if folder.tokenizer.scheme == "byte_level":
        yield from _byte_level(folder)
    else:
        yield from _sentencepiece(folder)


def _byte_level(folder: Folder) -> Iterator[Finding]:
    if (file := folder.path / SENTENCEPIECE).exists() and is_tiktoken(file) and folder.tokenizer.path != file:
        yield Remark(
            f"{SENTENCEPIECE} is a tiktoken file, which {_LLAMA_CPP}'s converter takes for SentencePiece and stops at; "
            "keep it in another folder"
        )
    if "settings" not in folder.holds:
        return
    if folder.loaded_ids != folder.own_ids:
        yield Fact(GROUP, _LLAMA_CPP, "not told: transformers, which its converter uses, misreads the tokenizer")
        return
    found = check_hash(folder.loaded.encode(CHECK_TEXT))
    state = folder.tokenizer.state
    own = known_as(state.get("pre_tokenizer"), ignores_merges=bool(state["model"].get("ignore_merges")))
    name = HASHES.get(found)
    if name is None:
        yield Fact(GROUP, _LLAMA_CPP, f"does not know the hash {found[:8]}…, splits as {own or 'nothing known'}")
        yield Remark(_unknown(found, own))
        return
    yield Fact(GROUP, _LLAMA_CPP, f"knows the hash {found[:8]}… as pre-tokenizer {name}")
    if own is not None and PATTERNS[SAME.get(name, name)] != patterns(state.get("pre_tokenizer")):
        yield Remark(f"{_LLAMA_CPP} takes this for {name}, which splits texts otherwise; convert it as {own}: {_PLACE}")


def _unknown(found: str, own: str | None) -> str:
    words = f"{_LLAMA_CPP}'s converter stops: it knows byte-level tokenizers by a hash, and not {found}. "
    if own is None:
        return words + "The pre-tokenizer is none of those known here either: llama.cpp must learn it first"
    return words + (
        f"The pre-tokenizer itself is that of {own}, which `lep export` writes into its file. For the converter, put "
        "the lines\n"
        f'        if chkhsh == "{found}":\n            res = "{own}"\n'
        f"    before `if res is None` into {_PLACE}"
    )


def _sentencepiece(folder: Folder) -> Iterator[Finding]:
    unigram = folder.tokenizer.state["model"].get("type") == "Unigram"
    there = (folder.path / SENTENCEPIECE).exists()
    if unigram:
        yield Fact(GROUP, _LLAMA_CPP, "reads its pieces as BPE" if there else f"needs {SENTENCEPIECE}")
        yield Remark(
            f"{_LLAMA_CPP}'s converter has no Unigram for this architecture: "
            + (f"it writes {SENTENCEPIECE} as one whose pieces are merged by score" if there else "it stops")
            + "; texts are cut otherwise than here"
        )
    elif there:
        yield Fact(GROUP, _LLAMA_CPP, f"reads {SENTENCEPIECE}; no hash is needed")
    else:
        yield Fact(GROUP, _LLAMA_CPP, f"reads tokenizer.json, without scores: {SENTENCEPIECE} is missing")
        yield Remark(
            f"without {SENTENCEPIECE}, {_LLAMA_CPP}'s converter gives all pieces one score, and texts are merged from "
            f"left to right; put the {SENTENCEPIECE} beside tokenizer.json"
        )
    if there and folder.tokenizer.path.name != SENTENCEPIECE:
        yield from _both(folder)


def _both(folder: Folder) -> Iterator[Finding]:
    """Two files that state one tokenizer must state the same one."""
    own, other = folder.tokenizer.vocabulary, read_tokenizer(folder.path / SENTENCEPIECE).vocabulary
    odd = [id_ for id_ in range(min(len(own), len(other))) if _differs(own, other, id_)]
    if odd:
        yield Problem(
            f"{SENTENCEPIECE} and tokenizer.json have other tokens at {counted(len(odd), 'id')}: {few(odd, own)}; "
            f"{_LLAMA_CPP} reads the first, transformers the second: remove the one that is stale"
        )
    if len(other) < len(own) and any(kind is Kind.NORMAL for kind in own.kinds[len(other) :]):
        yield Problem(
            f"{SENTENCEPIECE} has {len(other)} pieces, tokenizer.json {len(own)} tokens; {_LLAMA_CPP} reads the first: "
            "remove the one that is stale"
        )


def _differs(own: Vocabulary, other: Vocabulary, id_: int) -> bool:
    ordinary = Kind.NORMAL in (own.kinds[id_], other.kinds[id_])
    return ordinary and own.tokens[id_] != other.tokens[id_]
