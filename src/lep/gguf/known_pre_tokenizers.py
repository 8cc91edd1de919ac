"""Pre-tokenizers of byte-level BPE that llama.cpp knows: their patterns, and the hashes by which it detects them.

llama.cpp's converter encodes a fixed text with the tokenizer and looks up the SHA-256 of the ids, written as a Python
list: `get_vocab_base_pre` in conversion/base.py (convert_hf_to_gguf.py in older versions). The patterns are those of
src/llama-vocab.cpp, in the syntax of tokenizer.json.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from hashlib import sha256
from typing import Any

CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
"""The text that the converter encodes."""

_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern of a ByteLevel pre-tokenizer with `use_regex`."""
_DIGIT = r"\p{N}"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPERCASE = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWERCASE = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPERCASE}*{_LOWERCASE}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPERCASE}+{_LOWERCASE}*")


def _build_word_pattern(letters: str, letter_classes: str, digits: str) -> str:
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?[^\s{letter_classes}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    '[!"#$%&'
    r"'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)

PRE_TOKENIZER_PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2_PATTERN,),
    "smollm": (_DIGIT, _GPT2_PATTERN),
    "llama-bpe": (_build_word_pattern(r"\p{L}", r"\p{L}", r"\p{N}{1,3}"),),
    "qwen2": (_build_word_pattern(r"\p{L}", r"\p{L}", _DIGIT),),
    "qwen35": (_build_word_pattern(r"[\p{L}\p{M}]", r"\p{L}\p{M}", _DIGIT),),
    "tekken": (rf"{_TEKKEN[0]}|{_TEKKEN[1]}|{_DIGIT}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",),
    "gpt-4o": (
        rf"{_TEKKEN[0]}{_CONTRACTIONS}?|{_TEKKEN[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|"
        rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    ),
    "deepseek-v3": _DEEPSEEK_3,
}
"""Patterns that split a text one after another, by llama.cpp's most common name of the pre-tokenizer."""

PRE_TOKENIZER_ALIASES = {
    "smaug-bpe": "llama-bpe",
    "pixtral": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
    "starcoder": "smollm",
    "command-r": "smollm",
    "olmo": "gpt-2",
    "llama4": "gpt-4o",
    "joyai-llm": "deepseek-v3",
}
"""Other names, each with the name in `PRE_TOKENIZER_PATTERNS` that has the same patterns."""

IGNORE_MERGES_NAMES = ("llama-bpe", "pixtral", "tekken")
"""Names for which a word that is a token is not merged: `ignore_merges` in src/llama-vocab.cpp."""

PRE_TOKENIZER_BY_HASH = {
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",
    "c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d": "smaug-bpe",
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",
    "d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c": "qwen2",
    "d30d75d9059f1aa2c19359de71047b3ae408c70875e8a3ccf8c5fba56c9d8af4": "qwen35",
    "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "35d91631860c815f952d711435f48d356ebac988362536bed955d43bfa436e34": "starcoder",
    "9c2227e4dd922002fb81bde4fc02b0483ca4f12911410dee2255e4987644e3f8": "command-r",
    "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454": "gpt-2",
    "0fe1cf6eda062318a1af7270f3331a85c539a01778ff948e24388e949c5282f4": "gpt-2",
    "b6dc8df998e1cfbdc4eac8243701a65afe638679230920b50d6f17d81c098166": "olmo",
    "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e": "tekken",
    "0e9433cbbb161f89e264eb32e8e64bfe69e834973ffca5d41d3948a604a3e2a3": "pixtral",
    "877081d19cf6996e2c4ff0e1236341e9b7bde288f5311a56a937f0afbbb3aeb5": "deepseek-v3",
    "b4b8ca1f9769494fbd956ebc4c249de6131fb277a4a3345a7a92c7dd7a55808d": "joyai-llm",
    "ccc2ef013c104be7bae2965776d611e1d7a8a2a9c547dd93a682c9a9fc80352e": "gpt-4o",
    "d353350c764d8c3b39c763113960e4fb4919bea5fbf208a0e3b22e8469dc7406": "llama4",
}
"""Names by hash, for common model families; the converter has about ninety."""


def compute_check_hash(ids: list[int]) -> str:
    """Return the hash by which the converter looks up a tokenizer, from its ids of `CHECK_TEXT` with special tokens."""
    return sha256(str(ids).encode()).hexdigest()


def extract_patterns(pre_tokenizer: dict[str, Any] | None) -> tuple[str, ...] | None:
    """Return the patterns of a pre-tokenizer of tokenizer.json; None where it does more than split by patterns."""
    if pre_tokenizer is None:
        return None
    components = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    patterns: list[str] = []
    for component in components:
        behavior = (component.get("behavior"), component.get("invert"))
        if component["type"] == "Split" and behavior in (("Isolated", False), ("Removed", True)):
            patterns.append(component["pattern"].get("Regex", ""))
        elif component["type"] == "Digits" and component.get("individual_digits"):
            patterns.append(_DIGIT)
        elif component["type"] == "ByteLevel" and not component.get("add_prefix_space"):
            patterns += [_GPT2_PATTERN] if component.get("use_regex", True) else []
        else:
            return None
    return tuple(patterns)


def find_llama_cpp_name(pre_tokenizer: dict[str, Any] | None, *, ignore_merges: bool) -> str | None:
    """Return llama.cpp's name of a pre-tokenizer; None where it has none.

    Args:
        pre_tokenizer: The pre-tokenizer of a tokenizer.json.
        ignore_merges: A word that is a token is not merged; the name depends on this, too.

    Returns:
        The name.
    """
    patterns = extract_patterns(pre_tokenizer)
    name = next((name for name, known in PRE_TOKENIZER_PATTERNS.items() if known == patterns), None)
    return "smaug-bpe" if name == "llama-bpe" and not ignore_merges else name


def find_closest_name(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return the name with the most similar patterns, as a hint for error messages."""
    patterns = " ".join(extract_patterns(pre_tokenizer) or ())
    return max(
        PRE_TOKENIZER_PATTERNS,
        key=lambda name: SequenceMatcher(None, patterns, " ".join(PRE_TOKENIZER_PATTERNS[name])).ratio(),
    )
