"""Predict what vLLM and llama.cpp's converter do with the folder, by the rules in their sources."""

from __future__ import annotations

from collections.abc import Iterator

from lep.core.vocabulary import TokenKind, Vocabulary
from lep.gguf.known_pre_tokenizers import (
    CHECK_TEXT,
    PRE_TOKENIZER_ALIASES,
    PRE_TOKENIZER_BY_HASH,
    PRE_TOKENIZER_PATTERNS,
    compute_check_hash,
    extract_patterns,
    find_llama_cpp_name,
)
from lep.inspection.findings import (
    Fact,
    Finding,
    InspectedFolder,
    Problem,
    Remark,
    format_count,
    format_tokens,
    get_language_config,
)
from lep.inspection.loading import LOADING_GROUP
from lep.io.sentencepiece_file import SENTENCEPIECE_FILE, is_tiktoken_file
from lep.io.tokenizer_file import read_tokenizer

VLLM_VOCABULARY_PADDING = 64
"""vLLM pads embedding matrices to a multiple of this: model_executor/layers/vocab_parallel_embedding.py."""

_CONVERTER_FUNCTION = "get_vocab_base_pre in llama.cpp's conversion/base.py (convert_hf_to_gguf.py in older versions)"
_LLAMA_CPP = "llama.cpp"


def check_vllm(folder: InspectedFolder) -> Iterator[Finding]:
    """Check that vocab_size is the number of rows, and report the padding that vLLM adds."""
    rows = len(folder.model.embedding_matrices()["embed"])
    vocab_size = get_language_config(folder.load_json("config.json")).get("vocab_size", rows)
    padding = -rows % VLLM_VOCABULARY_PADDING
    if vocab_size != rows:
        value = f"fails: vocab_size is {vocab_size:,}, the embedding matrix has {rows:,} rows"
    elif padding:
        value = f"pads {rows:,} rows to {rows + padding:,}, a multiple of {VLLM_VOCABULARY_PADDING}"
    else:
        value = f"needs no padding: {rows:,} rows are a multiple of {VLLM_VOCABULARY_PADDING}"
    yield Fact(LOADING_GROUP, "vLLM", value)


def check_llama_cpp(folder: InspectedFolder) -> Iterator[Finding]:
    """Predict what the converter does with the tokenizer; it makes ids without a token unused ones."""
    if folder.tokenizer.scheme == "byte_level":
        yield from _check_byte_level(folder)
    else:
        yield from _check_sentencepiece(folder)


def _check_byte_level(folder: InspectedFolder) -> Iterator[Finding]:
    if (file := folder.path / SENTENCEPIECE_FILE).exists() and is_tiktoken_file(file) and folder.tokenizer.path != file:
        yield Remark(
            f"{SENTENCEPIECE_FILE} is a tiktoken file; {_LLAMA_CPP}'s converter reads it as SentencePiece and fails: "
            "move it to another folder"
        )
    if "settings" not in folder.contents:
        return
    if folder.transformers_ids != folder.tokenizer_file_ids:
        reason = "transformers, which the converter uses, gives other ids than the tokenizer file"
        yield Fact(LOADING_GROUP, _LLAMA_CPP, f"not known: {reason}")
        return
    digest = compute_check_hash(folder.transformers_tokenizer.encode(CHECK_TEXT))
    tokenizer_json = folder.tokenizer.tokenizer_json
    pre_tokenizer = tokenizer_json.get("pre_tokenizer")
    ignore_merges = bool(tokenizer_json["model"].get("ignore_merges"))
    expected_name = find_llama_cpp_name(pre_tokenizer, ignore_merges=ignore_merges)
    name = PRE_TOKENIZER_BY_HASH.get(digest)
    if name is None:
        value = f"does not know the hash {digest[:8]}…; the pre-tokenizer is {expected_name or 'unknown, too'}"
        yield Fact(LOADING_GROUP, _LLAMA_CPP, value)
        yield Remark(_explain_unknown_hash(digest, expected_name))
        return
    yield Fact(LOADING_GROUP, _LLAMA_CPP, f"knows the hash {digest[:8]}… as pre-tokenizer {name}")
    patterns = PRE_TOKENIZER_PATTERNS[PRE_TOKENIZER_ALIASES.get(name, name)]
    if expected_name is not None and patterns != extract_patterns(pre_tokenizer):
        yield Remark(
            f"{_LLAMA_CPP}'s converter chooses pre-tokenizer {name}, which splits texts differently; convert the model "
            f"as {expected_name}: {_CONVERTER_FUNCTION}"
        )


def _explain_unknown_hash(digest: str, pre_tokenizer_name: str | None) -> str:
    problem = f"{_LLAMA_CPP}'s converter fails: it detects byte-level tokenizers by a hash and does not know {digest}. "
    if pre_tokenizer_name is None:
        return problem + f"lep does not know the pre-tokenizer either: {_LLAMA_CPP} must support it first"
    return problem + (
        f"The pre-tokenizer is that of {pre_tokenizer_name}, and `lep export` writes this name. For the converter, add "
        "the lines\n"
        f'        if chkhsh == "{digest}":\n            res = "{pre_tokenizer_name}"\n'
        f"    before `if res is None` in {_CONVERTER_FUNCTION}"
    )


def _check_sentencepiece(folder: InspectedFolder) -> Iterator[Finding]:
    unigram = folder.tokenizer.tokenizer_json["model"].get("type") == "Unigram"
    has_file = (folder.path / SENTENCEPIECE_FILE).exists()
    if unigram:
        yield Fact(LOADING_GROUP, _LLAMA_CPP, "reads its pieces as BPE" if has_file else f"needs {SENTENCEPIECE_FILE}")
        outcome = "it writes the pieces as BPE, and texts are tokenized differently" if has_file else "it fails"
        yield Remark(f"{_LLAMA_CPP}'s converter does not support Unigram for this architecture: {outcome}")
    elif has_file:
        yield Fact(LOADING_GROUP, _LLAMA_CPP, f"reads {SENTENCEPIECE_FILE}; no hash is needed")
    else:
        yield Fact(LOADING_GROUP, _LLAMA_CPP, f"reads tokenizer.json, without scores: {SENTENCEPIECE_FILE} is missing")
        yield Remark(
            f"without {SENTENCEPIECE_FILE}, {_LLAMA_CPP}'s converter gives all pieces the same score, and texts are "
            f"merged from left to right: add the {SENTENCEPIECE_FILE} of the tokenizer to the folder"
        )
    if has_file and folder.tokenizer.path.name != SENTENCEPIECE_FILE:
        yield from _check_both_files(folder)


def _check_both_files(folder: InspectedFolder) -> Iterator[Finding]:
    """Check that tokenizer.json and the SentencePiece file have the same vocabulary."""
    vocabulary, pieces = folder.tokenizer.vocabulary, read_tokenizer(folder.path / SENTENCEPIECE_FILE).vocabulary
    common = range(min(len(vocabulary), len(pieces)))
    remedy = f"{_LLAMA_CPP} reads the first, transformers the second: remove the outdated file"
    if different := [id_ for id_ in common if _tokens_differ(vocabulary, pieces, id_)]:
        yield Problem(
            f"{SENTENCEPIECE_FILE} and tokenizer.json have different tokens at {format_count(len(different), 'id')}: "
            f"{format_tokens(different, vocabulary)}; {remedy}"
        )
    if len(pieces) < len(vocabulary) and TokenKind.NORMAL in vocabulary.kinds[len(pieces) :]:
        yield Problem(
            f"{SENTENCEPIECE_FILE} has {len(pieces)} pieces, tokenizer.json {len(vocabulary)} tokens; {remedy}"
        )


def _tokens_differ(vocabulary: Vocabulary, other: Vocabulary, id_: int) -> bool:
    is_normal = TokenKind.NORMAL in (vocabulary.kinds[id_], other.kinds[id_])
    return is_normal and vocabulary.tokens[id_] != other.tokens[id_]
