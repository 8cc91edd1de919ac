"""Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lep.config import Propagate
from lep.core.propagation import Projection, fit_projection, keep_special, propagate
from lep.core.vocabulary import Kind
from lep.errors import CheckpointError, TokenizerError
from lep.io.checkpoint import copy_tokenizer, copy_with_tables
from lep.io.model import ModelFolder, check_rows, open_model, read_json, write_json
from lep.io.tokenizer_files import State, TokenizerFile, map_vocabularies, read_tokenizer

_ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "sep_token_id")


def run(settings: Propagate, out: Path) -> dict[str, Any]:
    """Write a whole model folder: the instruct model, with propagated tables and the adapted tokenizer."""
    base, adapted, instruct = (open_model(path) for path in (settings.base, settings.adapted, settings.instruct))
    _check_siblings(base, adapted, instruct)
    old, new, own = (read_tokenizer(model.path) for model in (base, adapted, instruct))
    for model, tokenizer in ((base, old), (adapted, new), (instruct, own)):
        check_rows(model, tokens=len(tokenizer.vocabulary))
    _check_same_vocabulary(old, own)
    state = with_added_tokens(new.state, own, first=len(new.vocabulary))
    added = {item["content"]: item["id"] for item in state["added_tokens"]}
    mapped = map_vocabularies(old, new)
    adapted_rows = adapted.tables()["embed"].shape[0]
    made = copy_with_tables(instruct, out, rows=max(adapted_rows, 1 + max(added.values(), default=0)))
    numbers: dict[str, Any] = {}
    for name, target in made.items():
        base_table, own_table = base.tables()[name], instruct.tables()[name]
        projection = fit_projection(
            mapped,
            base=base_table[: len(old.vocabulary)],
            instruct=own_table[: len(old.vocabulary)],
            method=settings.method,
            ridge=settings.ridge,
        )
        propagate(adapted.tables()[name], projection, out=target[:adapted_rows])
        new_ids = torch.tensor([added[text] for text in own.added], dtype=torch.int64)
        old_ids = torch.tensor(list(own.added.values()), dtype=torch.int64)
        keep_special(target, instruct=own_table, new_ids=new_ids, old_ids=old_ids)
        _check_rows(target[: len(new.vocabulary)], name=name, folder=settings.adapted)
        numbers[name] = _numbers(projection)
    copy_tokenizer(settings.instruct, out, state=state)
    _renumber(instruct, out, ids=_new_ids(own, read_tokenizer(out)))
    return {"method": settings.method, "special_tokens_kept": len(own.added), "tables": numbers}


def check(settings: Propagate) -> None:
    """What can be told before any work: the models that are there already must be siblings of one vocabulary."""
    models = (settings.base, settings.adapted, settings.instruct)
    if settings.base.exists() and settings.instruct.exists():
        _check_same_vocabulary(read_tokenizer(settings.base), read_tokenizer(settings.instruct))
    if all(path.exists() for path in models):
        _check_siblings(*map(open_model, models))


def with_added_tokens(state: State, instruct: TokenizerFile, *, first: int) -> State:
    """The adapted tokenizer, with the added tokens of the instruct model that it lacks, numbered from `first`."""
    items = list(state.get("added_tokens", []))
    known = {item["content"] for item in items}
    lacking = [item for item in instruct.state.get("added_tokens", []) if item["content"] not in known]
    return state | {"added_tokens": [*items, *({**item, "id": first + i} for i, item in enumerate(lacking))]}


def _check_siblings(base: ModelFolder, adapted: ModelFolder, instruct: ModelFolder) -> None:
    """`CheckpointError` when the three cannot be relatives: other tables tied, or another width."""
    reference = base.tables()
    for model in (adapted, instruct):
        if model.tied != base.tied:
            words = {True: "tied", False: "untied"}
            raise CheckpointError(
                f"{model.path}: its tables are {words[model.tied]}, those of {base.path} {words[base.tied]}; "
                "give three models of one family"
            )
        for name, table in model.tables().items():
            if table.shape[1] != reference[name].shape[1]:
                raise CheckpointError(
                    f"{model.path}: {name} has rows of {table.shape[1]}, {base.path} of {reference[name].shape[1]}; "
                    "the models do not come from one base"
                )


def _check_same_vocabulary(base: TokenizerFile, instruct: TokenizerFile) -> None:
    """`TokenizerError` names the first learnt token on which the base and the instruct tokenizer disagree."""
    theirs = instruct.vocabulary
    for id_, (token, kind) in enumerate(zip(base.vocabulary.tokens, base.vocabulary.kinds, strict=True)):
        if kind not in (Kind.NORMAL, Kind.BYTE):
            continue
        found = theirs.tokens[id_] if id_ < len(theirs) else None
        if found != token:
            raise TokenizerError(
                f"{instruct.path}: token {id_} is {found!r}, in {base.path} it is {token!r}; "
                "the instruct model must have the base's vocabulary"
            )


def _check_rows(table: Tensor, *, name: str, folder: Path) -> None:
    bad = [~rows.isfinite().all(dim=1) | (rows == 0).all(dim=1) for rows in table.split(8192)]
    if len(rows := torch.cat(bad).nonzero().flatten()):
        raise CheckpointError(f"{folder}: row {int(rows[0])} of {name} is zero or not finite after propagation")


def _numbers(projection: Projection) -> dict[str, Any]:
    found = asdict(projection)
    del found["delta"]
    return found


def _new_ids(old: TokenizerFile, new: TokenizerFile) -> dict[int, int]:
    """Old id → new id, for the tokens that both have."""
    place = {key: id_ for id_, key in enumerate(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True))}
    keys = enumerate(zip(old.vocabulary.tokens, old.vocabulary.kinds, strict=True))
    return {id_: place[key] for id_, key in keys if key in place}


def _renumber(instruct: ModelFolder, out: Path, *, ids: dict[int, int]) -> None:
    """Begin, end and padding ids of the configurations, in the new numbering."""
    for name in ("config.json", "generation_config.json"):
        if not (out / name).exists():
            continue
        config = read_json(out / name)
        for key in _ID_KEYS:
            old = config.get(key)
            if old is None:
                continue
            absent = [id_ for id_ in (old if isinstance(old, list) else [old]) if id_ not in ids]
            if absent:
                raise TokenizerError(f"{instruct.path}: {key} {absent[0]} of {name} is no token of the new vocabulary")
            config[key] = [ids[id_] for id_ in old] if isinstance(old, list) else ids[old]
        write_json(out / name, config)
