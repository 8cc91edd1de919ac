"""Check special token ids: what each file says, whether they are tokens, and whether the files agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lep.core.vocabulary import TokenKind
from lep.inspection.findings import (
    GENERATION_CONFIG,
    TOKENIZER_CONFIG,
    Fact,
    Finding,
    InspectedFolder,
    Problem,
    Remark,
    format_token,
    get_language_config,
)
from lep.io.sentencepiece_file import SENTENCEPIECE_FILE, read_special_tokens

_SPECIAL_TOKEN_ROLES = ("bos", "eos", "pad", "unk")
_MODEL_CONFIG = "config.json"
_TOKENIZER_SOURCE = "tokenizer"


def check_special_ids(folder: InspectedFolder) -> Iterator[Finding]:
    """Report the ids of each role; check that they are tokens, and that the files agree on where generation stops."""
    configs = {
        _MODEL_CONFIG: get_language_config(folder.load_json(_MODEL_CONFIG)),
        GENERATION_CONFIG: folder.load_json(GENERATION_CONFIG),
    }
    texts = _read_special_tokens(folder)
    for role in _SPECIAL_TOKEN_ROLES:
        ids_by_source = {
            source: ids
            for source, config in configs.items()
            if (ids := _parse_token_ids(config.get(f"{role}_token_id")))
        }
        if (text := texts.get(f"{role}_token")) is not None:
            id_ = folder.tokenizer.tokenizer.token_to_id(text)
            if id_ is None:
                yield Problem(
                    f"{TOKENIZER_CONFIG} names {role}_token {text!r}, which the tokenizer lacks: transformers adds it "
                    f"as id {folder.vocabulary_size}, which has no row of its own; name a token of the tokenizer"
                )
            else:
                ids_by_source[_TOKENIZER_SOURCE] = [id_]
        yield Fact("special ids", role, _format_ids_by_source(ids_by_source, folder))
        yield from _check_ids_are_tokens(ids_by_source, role, folder)
    yield from _check_eos_token_ids(configs, texts, folder)


def read_eos_token_ids(folder: InspectedFolder) -> list[int]:
    """Return the ids at which generation stops; generation_config.json takes precedence over config.json."""
    configs = (folder.load_json(GENERATION_CONFIG), get_language_config(folder.load_json(_MODEL_CONFIG)))
    return next((ids for config in configs if (ids := _parse_token_ids(config.get("eos_token_id")))), [])


def _read_special_tokens(folder: InspectedFolder) -> dict[str, str]:
    """Return `bos_token` and so on from the tokenizer's JSON files, else from a SentencePiece file."""
    sentencepiece_file = folder.path / SENTENCEPIECE_FILE
    defaults = read_special_tokens(sentencepiece_file) if sentencepiece_file.exists() else {}
    settings = defaults | folder.load_json("special_tokens_map.json") | folder.load_json(TOKENIZER_CONFIG)
    texts = {key: item.get("content") if isinstance(item, dict) else item for key, item in settings.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _parse_token_ids(value: Any) -> list[int]:
    """Return the ids of a value that is an id, a list or None; negative ids mean None."""
    values = value if isinstance(value, list) else [value]
    return [id_ for id_ in values if isinstance(id_, int) and id_ >= 0]


def _format_ids_by_source(ids_by_source: Mapping[str, list[int]], folder: InspectedFolder) -> str:
    def format_ids(ids: list[int]) -> str:
        return ", ".join(format_token(id_, folder.tokenizer.vocabulary) for id_ in ids)

    if len(set(map(tuple, ids_by_source.values()))) > 1:
        return "; ".join(f"{source}: {format_ids(ids)}" for source, ids in ids_by_source.items())
    return format_ids(next(iter(ids_by_source.values()))) if ids_by_source else "none"


def _check_ids_are_tokens(
    ids_by_source: Mapping[str, list[int]], role: str, folder: InspectedFolder
) -> Iterator[Finding]:
    kinds = folder.tokenizer.vocabulary.kinds
    for source, ids in ids_by_source.items():
        for id_ in ids:
            if id_ >= len(kinds) or kinds[id_] is TokenKind.UNUSED:
                yield Problem(f"{source}: {role}_token_id {id_} is not a token; the tokenizer has {len(kinds)} ids")


def _check_eos_token_ids(
    configs: Mapping[str, Mapping[str, Any]], special_tokens: Mapping[str, str], folder: InspectedFolder
) -> Iterator[Finding]:
    """Yield remarks on ids that should stop generation and do not."""
    vocabulary = folder.tokenizer.vocabulary
    stop_ids = read_eos_token_ids(folder)
    for id_ in _parse_token_ids(configs[_MODEL_CONFIG].get("eos_token_id")):
        if stop_ids and id_ not in stop_ids:
            yield Remark(
                f"generation does not stop at {format_token(id_, vocabulary)}, an eos_token_id of config.json; add "
                f"{id_} to eos_token_id in {GENERATION_CONFIG}"
            )
    eos_token = special_tokens.get("eos_token")
    eos_id = folder.tokenizer.tokenizer.token_to_id(eos_token) if eos_token is not None else None
    if eos_id is not None and stop_ids and eos_id not in stop_ids:
        yield Remark(
            f"generation does not stop at {format_token(eos_id, vocabulary)}, the eos_token of the tokenizer; add "
            f"{eos_id} to eos_token_id in {GENERATION_CONFIG}"
        )
