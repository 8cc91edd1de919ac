"""Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lep.config import Propagate, paths
from lep.core.propagation import HELDOUT, METHODS, Fit, Projection, best, fit_projection, keep_special, propagate
from lep.core.table_rows import spans
from lep.core.unicode_scripts import script_of
from lep.core.vocabulary import Kind, VocabularyMap
from lep.errors import CheckpointError, TokenizerError
from lep.estimation.costs import Cost, propagation_cost
from lep.io.families import TableNames
from lep.io.model_or_adapter import Sibling, new_layers, open_sibling
from lep.io.model_writer import Layout, copy_tokenizer, copy_with_tables, lay_out
from lep.io.token_id_config import renumber
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.io.tokenizer_json import with_added_tokens
from lep.modeling.chat_parity import check_chat
from lep.modeling.loading import check_device
from lep.progress import progress
from lep.tokenization.token_counts import token_frequencies

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ZERO = 1e-12
"""Shorter rows are none: what rounding leaves of zero."""

_Tokenizers = tuple[TokenizerFile, TokenizerFile, TokenizerFile]
_Models = tuple[Sibling, Sibling, Sibling]


@dataclass(frozen=True)
class _Shared:
    """What the instruct models of one base have in common: T, what tells its rows apart, and G of every fit."""

    mapped: VocabularyMap
    scripts: tuple[str, ...]
    labels: Tensor
    weights: Tensor | None
    grams: dict[object, list[Tensor]] = field(default_factory=dict)


_last: dict[object, _Shared] = {}
"""Of the last run in this process, by what it was computed from: a recipe's instruct models come one after another."""


def run(settings: Propagate, out: Path) -> dict[str, Any]:
    """Write a whole model folder: the instruct model, with propagated tables and the adapted tokenizer."""
    models, (old, new, own) = _open(settings)
    _, adapted, instruct = models
    result = TokenizerFile(out, with_added_tokens(new.state, own.state, first=len(new.vocabulary)), new.scheme)
    layers = new_layers(*models, scale=settings.layers_scale)
    shared = _share(settings, models, old, new)
    layout = _lay_out(adapted, instruct, tokens=len(result.vocabulary), changed=layers)
    made = copy_with_tables(layout, out, values=layers, link=settings.link)
    new_ids, old_ids = _special(result, own)
    moved = _moved(shared.mapped, new, own)
    numbers: dict[str, Any] = {}
    for table, target in made.items():
        started = time.monotonic()
        projection, tried = _fit(settings, models, table=table, shared=shared, moved=moved)
        fitted = time.monotonic()
        with progress(f"writing {table}", total=adapted.height, unit="rows") as advance:
            norms = propagate(adapted.rows(table), projection, out=target, device=settings.device, advance=advance)
        keep_special(target, instruct=instruct.rows(table), new_ids=new_ids, old_ids=old_ids)
        norms = torch.cat([norms, norms.new_ones(len(target) - len(norms))])
        norms[new_ids] = target[new_ids].float().norm(dim=1)
        _check_made(norms, result, kept=new_ids, name=f"{table} of {settings.adapted}")
        numbers[table] = _numbers(projection, shared, norms) | ({"tried": tried} if len(tried) > 1 else {})
        numbers[table]["seconds"] = {"fit": fitted - started, "write": time.monotonic() - fitted}
    copy_tokenizer(instruct.tokenizer, out, state=result.state)
    renumber(out, old=own, new=read_tokenizer(out))
    return {
        "method": settings.method,
        "special_tokens_kept": len(new_ids),
        "layers_changed": len(layers),
        "bytes_written": layout.bytes,
        "chat_tokens": check_chat(instruct.tokenizer, out),
        "tables": numbers,
    }


def check(settings: Propagate) -> None:
    """What can be told before any work: the models that are there already must be siblings of one vocabulary."""
    if all(path.exists() for path in paths(settings).values()):
        models, _ = _open(settings)
        if settings.layers_scale is None:
            new_layers(*models, scale=None)


def cost(settings: Propagate) -> Cost:
    """What `run` will take on this machine. No weight is read, unless `layers_scale` asks what the layers learnt."""
    models, tokenizers = _open(settings)
    base, adapted, instruct = models
    _, new, own = tokenizers
    tokens = len(new.vocabulary) + len(own.added.keys() - new.added.keys())
    layers = new_layers(*models, scale=settings.layers_scale)
    layout = _lay_out(adapted, instruct, tokens=tokens, changed=layers)
    fits = {"swap": 0, "auto": len(METHODS) - 1}.get(settings.method, 1)
    return propagation_cost(
        rows=adapted.height,
        dim=base.width,
        tables=len(layout.names),
        fits=fits,
        tokens=sum(len(tokenizer.vocabulary) for tokenizer in tokenizers),
        hashed=sum(file.stat().st_size for model in {base.path, instruct.path} for file in model.glob("*.safetensors")),
        written=layout.bytes,
        device=settings.device,
    )


def _open(settings: Propagate) -> tuple[_Models, _Tokenizers]:
    """Base, adapted and instruct, whose tables must fit each other and their tokenizers."""
    check_device(settings.device)
    names = TableNames(**settings.tables.model_dump()) if settings.tables else None
    base = open_sibling(settings.base, base=None, names=names)
    adapted = open_sibling(settings.adapted, base=settings.adapter_base, names=names)
    instruct = open_sibling(settings.instruct, base=settings.base, names=names)
    old, new, own = (read_tokenizer(model.tokenizer) for model in (base, adapted, instruct))
    for model, tokenizer in ((base, old), (adapted, new), (instruct, own)):
        if model.width != base.width:
            raise CheckpointError(
                f"{model.path}: its tables have rows of {model.width}, those of {base.path} of {base.width}; "
                "the models do not come from one base"
            )
        if model.height < len(tokenizer.vocabulary):
            raise CheckpointError(
                f"{model.path}: its tables have {model.height} rows for {len(tokenizer.vocabulary)} tokens; "
                "is that its own tokenizer?"
            )
    _check_same_vocabulary(old, own)
    return (base, adapted, instruct), (old, new, own)


def _lay_out(adapted: Sibling, instruct: Sibling, *, tokens: int, changed: Collection[str]) -> Layout:
    """The result's tables are as high as the adapted ones, or as there are tokens; tied if both models are."""
    rows, tied = max(adapted.height, tokens), adapted.tied and instruct.tied
    return lay_out(instruct.model, rows=rows, tied=tied, changed=changed)


def _special(result: TokenizerFile, own: TokenizerFile) -> tuple[Tensor, Tensor]:
    """Ids of the instruct model's special tokens, in the result and in the instruct model."""
    place = {token: id_ for id_, token in enumerate(result.vocabulary.tokens) if _is_special(result, id_)}
    tokens = enumerate(own.vocabulary.tokens)
    pairs = [(place[token], id_) for id_, token in tokens if _is_special(own, id_) and token in place]
    new_ids, old_ids = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(new_ids, dtype=torch.int64), torch.tensor(old_ids, dtype=torch.int64)


def _is_special(tokenizer: TokenizerFile, id_: int) -> bool:
    return tokenizer.vocabulary.kinds[id_] is Kind.SPECIAL


def _share(settings: Propagate, models: _Models, old: TokenizerFile, new: TokenizerFile) -> _Shared:
    base, adapted, _ = models
    key = (settings.device, *map(_identity, (base.path, base.tokenizer, adapted.tokenizer, settings.corpus)))
    if key not in _last:
        names = [script_of(token) for token in new.vocabulary.tokens]
        scripts = tuple(dict.fromkeys(names))
        _last.clear()
        _last[key] = _Shared(
            mapped=map_vocabularies(old, new),
            scripts=scripts,
            labels=torch.tensor([scripts.index(name) for name in names]),
            weights=1 + token_frequencies(settings.corpus, new) if settings.corpus else None,
        )
    return _last[key]


def _identity(path: Path | None) -> object:
    """What changes when a file, or a file of a folder, does."""
    if path is None:
        return None
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = ((file.name, file.stat() if file.exists() else file.lstat()) for file in files)
    return str(path.resolve()), tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


def _moved(mapped: VocabularyMap, new: TokenizerFile, own: TokenizerFile) -> Tensor:
    """New ids of special tokens that are the base's, while the instruct model's row of that id is another token's."""
    ids = mapped.shared.nonzero().flatten()
    old_ids = mapped.pieces[mapped.offsets[ids]].tolist()
    theirs, tokens = dict(enumerate(own.vocabulary.tokens)), new.vocabulary
    special = (
        id_
        for id_, old_id in zip(ids.tolist(), old_ids, strict=True)
        if tokens.kinds[id_] is Kind.SPECIAL and theirs.get(old_id) != tokens.tokens[id_]
    )
    return torch.tensor([*special], dtype=torch.int64)


def _fit(
    settings: Propagate, models: _Models, *, table: str, shared: _Shared, moved: Tensor
) -> tuple[Projection, dict[str, float | None]]:
    """The projection of one table, and the held-out error of every method that was tried."""
    base, _, instruct = models
    mapped = shared.mapped.without(moved)
    methods = METHODS if settings.method == "auto" else (settings.method,)
    of = {"swap": 0, "overlap": int(mapped.shared.sum()), "conversion": int((mapped.lengths > 0).sum())}
    rows = sum(of[method] + of["conversion"] // HELDOUT for method in methods)
    with progress(f"fitting {table}", total=rows, unit="rows") as advance:
        try:
            fit = Fit(
                mapped,
                base=base.rows(table),
                instruct=instruct.rows(table),
                ridge=settings.ridge,
                weights=shared.weights,
                labels=shared.labels,
                device=settings.device,
                advance=advance,
            )
            tensor = base.model.head if table == "head" else base.model.names.embed
            keys = ((tensor, method, *moved.tolist()) for method in methods)
            grams = [shared.grams.setdefault(key, []) for key in keys]
            found = [fit_projection(fit, method, grams=known) for method, known in zip(methods, grams, strict=True)]
        except ValueError as error:
            raise CheckpointError(_why(error, base, instruct, table=table)) from None
    return best(found), {one.method: one.heldout.all if one.heldout else None for one in found}


def _why(error: ValueError, *models: Sibling, table: str) -> str:
    """Which row of which model made a fit fail; the error's own words where it was none."""
    for model in models:
        rows = model.rows(table)
        for span in spans(len(rows), dim=model.width):
            bad = (~rows[span].isfinite().all(dim=1)).nonzero().flatten()
            if len(bad):
                return f"{model.path}: row {span.start + int(bad[0])} of {table} is not finite; fetch the model again"
    return f"{models[-1].path}: {table}: {error}; method=swap needs no fit"


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


def _check_made(norms: Tensor, result: TokenizerFile, *, kept: Tensor, name: str) -> None:
    """`CheckpointError` when a row is not finite, or a token's is zero and not the instruct model's own."""
    kinds, tokens = result.vocabulary.kinds, result.vocabulary.tokens
    zero = norms < _ZERO
    zero[kept] = False
    zero[len(kinds) :] = False
    zero[[id_ for id_, kind in enumerate(kinds) if kind is Kind.HOLE]] = False
    if len(bad := (zero | ~norms.isfinite()).nonzero().flatten()):
        row = int(bad[0])
        of = f"token {tokens[row]!r}" if row < len(tokens) else "no token"
        raise CheckpointError(
            f"{name}: row {row} ({of}) is zero or not finite after propagation; look at the models with `lep inspect` "
            "and give others"
        )


def _numbers(projection: Projection, shared: _Shared, norms: Tensor) -> dict[str, Any]:
    found = asdict(projection)
    del found["delta"]
    errors = found.pop("heldout") or {"all": None, "shared": None, "composed": None, "by_label": ()}
    by_script = dict(zip(shared.scripts, errors["by_label"], strict=False))
    is_shared = shared.mapped.shared
    composed = (shared.mapped.lengths > 0) & ~is_shared
    norms = norms[: len(is_shared)]
    return found | {
        "residual_heldout": errors["all"],
        "residual_heldout_shared": errors["shared"],
        "residual_heldout_composed": errors["composed"],
        "residual_heldout_by_script": {script: value for script, value in by_script.items() if value is not None},
        "norms_shared": _quantiles(norms[is_shared]),
        "norms_composed": _quantiles(norms[composed]),
    }


def _quantiles(norms: Tensor) -> dict[str, float]:
    if not len(norms):
        return {}
    values = norms.sort().values
    return {f"{share:.0%}": float(values[round(share * (len(values) - 1))]) for share in _QUANTILES}
