"""The ids that begin, end and pad a text: what each file says, whether it is a token, and whether the files agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lep.core.vocabulary import Kind
from lep.inspection.findings import GENERATION, SETTINGS, Fact, Finding, Folder, Problem, Remark, language_config, named
from lep.io.sentencepiece_file import SENTENCEPIECE, special_names

_ROLES = ("bos", "eos", "pad", "unk")
_CONFIG = "config.json"
_TOKENIZER = "tokenizer"


def about_special_ids(folder: Folder) -> Iterator[Finding]:
    """One fact a role; ids that are no tokens; ends that one file knows and another does not."""
    configs = {_CONFIG: language_config(folder.json(_CONFIG)), GENERATION: folder.json(GENERATION)}
    texts = _texts(folder)
    for role in _ROLES:
        said = {source: ids for source, config in configs.items() if (ids := _ids(config.get(f"{role}_token_id")))}
        if (text := texts.get(f"{role}_token")) is not None:
            id_ = folder.tokenizer.tokenizer.token_to_id(text)
            if id_ is None:
                yield Problem(
                    f"{SETTINGS} names {role}_token {text!r}, which the tokenizer lacks: transformers adds it as id "
                    f"{folder.tokens}, for which no row was made; name one of the tokenizer's tokens"
                )
            else:
                said[_TOKENIZER] = [id_]
        yield Fact("special ids", role, _words(said, folder))
        yield from _no_tokens(said, role, folder)
    yield from _ends(configs, texts, folder)


def ends(folder: Folder) -> list[int]:
    """The ids at which generation stops: generation_config.json goes before config.json."""
    configs = (folder.json(GENERATION), language_config(folder.json(_CONFIG)))
    return next((ids for config in configs if (ids := _ids(config.get("eos_token_id")))), [])


def _texts(folder: Folder) -> dict[str, str]:
    """`bos_token` and so on as the tokenizer's settings name them, and a SentencePiece file where those do not."""
    model = folder.path / SENTENCEPIECE
    names = special_names(model) if model.exists() else {}
    settings = names | folder.json("special_tokens_map.json") | folder.json(SETTINGS)
    texts = {key: item.get("content") if isinstance(item, dict) else item for key, item in settings.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _ids(value: Any) -> list[int]:
    """An id, several, or none; a negative one means none as well."""
    values = value if isinstance(value, list) else [value]
    return [id_ for id_ in values if isinstance(id_, int) and id_ >= 0]


def _words(said: Mapping[str, list[int]], folder: Folder) -> str:
    def words(ids: list[int]) -> str:
        return ", ".join(named(id_, folder.tokenizer.vocabulary) for id_ in ids)

    if len(set(map(tuple, said.values()))) > 1:
        return "; ".join(f"{source}: {words(ids)}" for source, ids in said.items())
    return words(next(iter(said.values()))) if said else "none"


def _no_tokens(said: Mapping[str, list[int]], role: str, folder: Folder) -> Iterator[Finding]:
    kinds = folder.tokenizer.vocabulary.kinds
    for source, ids in said.items():
        for id_ in ids:
            if id_ >= len(kinds) or kinds[id_] is Kind.HOLE:
                yield Problem(f"{source}: {role}_token_id {id_} is not a token; the tokenizer has {len(kinds)} ids")


def _ends(configs: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str], folder: Folder) -> Iterator[Finding]:
    """Remarks on texts that would not end where they should."""
    vocabulary = folder.tokenizer.vocabulary
    stops = ends(folder)
    for id_ in _ids(configs[_CONFIG].get("eos_token_id")):
        if stops and id_ not in stops:
            yield Remark(f"{GENERATION} does not stop at {named(id_, vocabulary)}, which config.json calls the end")
    own = folder.tokenizer.tokenizer.token_to_id(texts["eos_token"]) if "eos_token" in texts else None
    if own is not None and stops and own not in stops:
        yield Remark(
            f"the tokenizer ends a text with {named(own, vocabulary)}, at which generation does not stop; add {own} to "
            f"eos_token_id in {GENERATION}"
        )
