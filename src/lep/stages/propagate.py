"""Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.config import PropagateSettings, get_input_paths
from lep.core.embedding_matrix import WritableEmbeddingMatrix, iter_row_blocks
from lep.core.least_squares import Gram
from lep.core.propagation import (
    HELDOUT_STRIDE,
    METHODS,
    HeldoutError,
    Projection,
    copy_special_rows,
    fit_projection,
    propagate_embeddings,
    select_projection,
)
from lep.core.unicode_scripts import detect_script
from lep.core.vocabulary import TokenKind, VocabularyMap
from lep.errors import CheckpointError, TokenizerError
from lep.io.families import EmbeddingNames
from lep.io.model_or_adapter import ModelOrAdapter, build_layer_updates, open_model_or_adapter
from lep.io.model_writer import copy_tokenizer, plan_model_copy, write_model_copy
from lep.io.token_id_config import remap_token_ids
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.io.tokenizer_json import merge_added_tokens
from lep.modeling.chat_parity import check_chat_parity
from lep.modeling.loading import check_device
from lep.progress import track_progress
from lep.results.embeddings import ProjectionFit, PropagationResult
from lep.tokenization.token_counts import count_corpus_tokens

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ZERO_NORM = 1e-12
"""Rows with a smaller norm count as zero: rounding leaves such rows of zeros."""


@dataclass(frozen=True)
class _Family:
    """The three models of one base, and their tokenizers."""

    base: ModelOrAdapter
    adapted: ModelOrAdapter
    instruct: ModelOrAdapter
    base_tokenizer: TokenizerFile
    adapted_tokenizer: TokenizerFile
    instruct_tokenizer: TokenizerFile

    def iter_models(self) -> Iterator[tuple[ModelOrAdapter, TokenizerFile]]:
        yield self.base, self.base_tokenizer
        yield self.adapted, self.adapted_tokenizer
        yield self.instruct, self.instruct_tokenizer


@dataclass(frozen=True)
class _SharedInputs:
    """What the instruct models of one base have in common: T, its weights and labels, and the Gram matrices."""

    vocabulary_map: VocabularyMap
    scripts: tuple[str, ...]
    labels: Int[Tensor, " new"]
    """The script of each new token, as its number in `scripts`."""
    token_weights: Float[Tensor, " new"] | None
    grams: dict[object, tuple[Gram, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _SpecialIds:
    """Ids of the instruct model's special tokens."""

    new: Int[Tensor, " special"]
    """In the result."""
    old: Int[Tensor, " special"]
    """In the instruct model."""
    moved: Int[Tensor, " moved"]
    """New ids of the base's special tokens whose row in the instruct model belongs to another token."""


PropagationCache = dict[object, _SharedInputs]
"""What the instruct models of a sweep share, by the state of the files that it was computed from."""


def run(settings: PropagateSettings, out: Path, cache: PropagationCache | None = None) -> PropagationResult:
    """Write a model folder: the instruct model, with propagated embeddings and the adapted tokenizer.

    Args:
        settings: Settings of the stage.
        out: An existing folder.
        cache: Keeps what further instruct models of the same base can use again; owned by whoever runs the sweep.

    Returns:
        How well each projection fits, and what was written.
    """
    family = _open_family(settings)
    tokenizer = _build_tokenizer(family, out)
    layers = build_layer_updates(family.base, family.adapted, family.instruct, scale=settings.layers_scale)
    shared = _get_shared_inputs(settings, family, {} if cache is None else cache)
    plan = plan_model_copy(
        family.instruct.model,
        num_embeddings=max(family.adapted.num_embeddings, len(tokenizer.vocabulary)),
        tied=family.adapted.tied and family.instruct.tied,
        changed_tensors=layers,
    )
    targets = write_model_copy(plan, out, new_tensors=layers, link=settings.link)
    special = _match_special_ids(family, tokenizer, shared.vocabulary_map)
    fits = {
        name: _propagate_matrix(name, target, settings, family, tokenizer=tokenizer, shared=shared, special=special)
        for name, target in targets.items()
    }
    copy_tokenizer(family.instruct.tokenizer_folder, out, tokenizer_json=tokenizer.tokenizer_json)
    remap_token_ids(out, old=family.instruct_tokenizer, new=read_tokenizer(out))
    return PropagationResult(
        method=settings.method,
        fits=fits,
        special_tokens_kept=len(special.new),
        layers_changed=len(layers),
        bytes_written=plan.bytes_to_write,
        chat_tokens=check_chat_parity(family.instruct.tokenizer_folder, out),
    )


def check(settings: PropagateSettings) -> None:
    """Check before any work that the models, where they exist already, are of one base and vocabulary."""
    if all(path.exists() for path in get_input_paths(settings).values()):
        family = _open_family(settings)
        if settings.layers_scale is None:
            build_layer_updates(family.base, family.adapted, family.instruct, scale=None)


def _open_family(settings: PropagateSettings) -> _Family:
    """Open the models; their embeddings must fit each other and their tokenizers."""
    check_device(settings.device)
    names = EmbeddingNames(**settings.embedding_names.model_dump()) if settings.embedding_names else None
    base = open_model_or_adapter(settings.base, base=None, embedding_names=names)
    adapted = open_model_or_adapter(settings.adapted, base=settings.adapter_base, embedding_names=names)
    instruct = open_model_or_adapter(settings.instruct, base=settings.base, embedding_names=names)
    tokenizers = (read_tokenizer(model.tokenizer_folder) for model in (base, adapted, instruct))
    family = _Family(base, adapted, instruct, *tokenizers)
    for model, tokenizer in family.iter_models():
        if model.embedding_dim != base.embedding_dim:
            raise CheckpointError(
                f"{model.path}: its embeddings have rows of {model.embedding_dim}, those of {base.path} of "
                f"{base.embedding_dim}; the models do not come from one base"
            )
        if model.num_embeddings < len(tokenizer.vocabulary):
            raise CheckpointError(
                f"{model.path}: its embeddings have {model.num_embeddings} rows for {len(tokenizer.vocabulary)} "
                "tokens; is that its own tokenizer?"
            )
    _check_same_vocabulary(family.base_tokenizer, family.instruct_tokenizer)
    return family


def _check_same_vocabulary(base: TokenizerFile, instruct: TokenizerFile) -> None:
    """Raise `TokenizerError` naming the first learned token on which base and instruct tokenizer disagree."""
    tokens = instruct.vocabulary.tokens
    for id_, (token, kind) in enumerate(zip(base.vocabulary.tokens, base.vocabulary.kinds, strict=True)):
        if kind not in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK):
            continue
        instruct_token = tokens[id_] if id_ < len(tokens) else None
        if instruct_token != token:
            raise TokenizerError(
                f"{instruct.path}: token {id_} is {instruct_token!r}, in {base.path} it is {token!r}; "
                "the instruct model must have the base's vocabulary"
            )


def _build_tokenizer(family: _Family, out: Path) -> TokenizerFile:
    """Build the adapted tokenizer with the instruct model's added tokens."""
    adapted = family.adapted_tokenizer
    tokenizer_json = merge_added_tokens(
        adapted.tokenizer_json, family.instruct_tokenizer.tokenizer_json, first_id=len(adapted.vocabulary)
    )
    return TokenizerFile(out, tokenizer_json, adapted.scheme)


def _get_shared_inputs(settings: PropagateSettings, family: _Family, cache: PropagationCache) -> _SharedInputs:
    """Take the shared inputs from the cache, or compute them and make them the only ones in it."""
    base, adapted = family.base, family.adapted
    files = (base.path, base.tokenizer_folder, adapted.tokenizer_folder, settings.corpus)
    key = (settings.device, *map(_get_file_state, files))
    if key not in cache:
        token_scripts = [detect_script(token) for token in family.adapted_tokenizer.vocabulary.tokens]
        scripts = {script: number for number, script in enumerate(dict.fromkeys(token_scripts))}
        counts = count_corpus_tokens(settings.corpus, family.adapted_tokenizer) if settings.corpus else None
        cache.clear()
        cache[key] = _SharedInputs(
            vocabulary_map=map_vocabularies(family.base_tokenizer, family.adapted_tokenizer),
            scripts=tuple(scripts),
            labels=torch.tensor([scripts[script] for script in token_scripts]),
            token_weights=None if counts is None else 1 + counts,
        )
    return cache[key]


def _get_file_state(path: Path | None) -> object:
    """Return a value that changes when a file, or a file of a folder, does."""
    if path is None:
        return None
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = ((file.name, file.stat() if file.exists() else file.lstat()) for file in files)
    return str(path.resolve()), tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


def _match_special_ids(family: _Family, tokenizer: TokenizerFile, vocabulary_map: VocabularyMap) -> _SpecialIds:
    result_ids = {token: id_ for id_, token in _iter_special_tokens(tokenizer)}
    pairs = [(result_ids[t], id_) for id_, t in _iter_special_tokens(family.instruct_tokenizer) if t in result_ids]
    new_ids, old_ids = zip(*pairs, strict=True) if pairs else ((), ())
    shared_ids = vocabulary_map.shared.nonzero().flatten()
    base_ids = vocabulary_map.segmentation[vocabulary_map.offsets[shared_ids]].tolist()
    base_id_by_new_id = dict(zip(shared_ids.tolist(), base_ids, strict=True))
    instruct_tokens = dict(enumerate(family.instruct_tokenizer.vocabulary.tokens))
    moved_ids = [
        id_
        for id_, token in _iter_special_tokens(family.adapted_tokenizer)
        if id_ in base_id_by_new_id and instruct_tokens.get(base_id_by_new_id[id_]) != token
    ]
    return _SpecialIds(*(torch.tensor(ids, dtype=torch.int64) for ids in (new_ids, old_ids, moved_ids)))


def _iter_special_tokens(tokenizer: TokenizerFile) -> Iterator[tuple[int, bytes]]:
    kinds = tokenizer.vocabulary.kinds
    return ((id_, token) for id_, token in enumerate(tokenizer.vocabulary.tokens) if kinds[id_] is TokenKind.SPECIAL)


def _propagate_matrix(
    name: str,
    target: WritableEmbeddingMatrix,
    settings: PropagateSettings,
    family: _Family,
    *,
    tokenizer: TokenizerFile,
    shared: _SharedInputs,
    special: _SpecialIds,
) -> ProjectionFit:
    """Fit the projection of one embedding matrix, write the propagated rows and check them."""
    started = time.monotonic()
    projections = _fit_projections(name, settings, family, shared=shared, moved_ids=special.moved)
    projection = select_projection(projections)
    fit_seconds = time.monotonic() - started
    with track_progress(f"writing {name}", total=family.adapted.num_embeddings, unit="rows") as advance:
        norms = propagate_embeddings(
            family.adapted.embedding_matrix(name), projection, out=target, device=settings.device, advance=advance
        )
    copy_special_rows(target, instruct=family.instruct.embedding_matrix(name), new_ids=special.new, old_ids=special.old)
    norms = torch.cat([norms, norms.new_ones(len(target) - len(norms))])
    norms[special.new] = target[special.new].float().norm(dim=1)
    _check_rows(norms, tokenizer, kept_ids=special.new, name=f"{name} of {settings.adapted}")
    write_seconds = time.monotonic() - started - fit_seconds
    return _describe_fit(projection, projections, shared, norms, fit_seconds=fit_seconds, write_seconds=write_seconds)


def _fit_projections(
    name: str, settings: PropagateSettings, family: _Family, *, shared: _SharedInputs, moved_ids: Tensor
) -> list[Projection]:
    """Fit one embedding matrix by the method of the settings, or by each."""
    base, instruct = family.base, family.instruct
    vocabulary_map = shared.vocabulary_map.exclude(moved_ids)
    methods = METHODS if settings.method == "auto" else (settings.method,)
    mapped_rows = int((vocabulary_map.lengths > 0).sum())
    fitted_rows = {"swap": 0, "overlap": int(vocabulary_map.shared.sum()), "conversion": mapped_rows}
    total = sum(fitted_rows[method] + mapped_rows // HELDOUT_STRIDE for method in methods)
    tensor_name = base.model.head_name if name == "head" else base.model.embedding_names.embed
    projections: list[Projection] = []
    with track_progress(f"fitting {name}", total=total, unit="rows") as advance:
        try:
            for method in methods:
                key = (tensor_name, method, *moved_ids.tolist())
                projection = fit_projection(
                    base.embedding_matrix(name),
                    instruct.embedding_matrix(name),
                    vocabulary_map,
                    method=method,
                    ridge=settings.ridge,
                    weights=shared.token_weights,
                    labels=shared.labels,
                    grams=shared.grams.get(key, ()),
                    device=settings.device,
                    advance=advance,
                )
                shared.grams[key] = projection.grams
                projections.append(projection)
        except ValueError as error:
            raise CheckpointError(_explain_fit_failure(error, base, instruct, name=name)) from None
    return projections


def _explain_fit_failure(error: ValueError, *models: ModelOrAdapter, name: str) -> str:
    """Say which row of which model made a fit fail, or what the error says."""
    for model in models:
        rows = model.embedding_matrix(name)
        for span in iter_row_blocks(len(rows), dim=model.embedding_dim):
            bad_rows = (~rows[span].isfinite().all(dim=1)).nonzero().flatten()
            if len(bad_rows):
                row = span.start + int(bad_rows[0])
                return f"{model.path}: row {row} of {name} is not finite; download the model again"
    return f"{models[-1].path}: {name}: {error}; method=swap needs no fit"


def _check_rows(norms: Tensor, tokenizer: TokenizerFile, *, kept_ids: Tensor, name: str) -> None:
    """Raise `CheckpointError` if a row is not finite, or if a token's propagated row is zero."""
    kinds, tokens = tokenizer.vocabulary.kinds, tokenizer.vocabulary.tokens
    is_zero = norms < _ZERO_NORM
    is_zero[kept_ids] = False
    is_zero[len(kinds) :] = False
    is_zero[[id_ for id_, kind in enumerate(kinds) if kind is TokenKind.UNUSED]] = False
    if len(bad_rows := (is_zero | ~norms.isfinite()).nonzero().flatten()):
        row = int(bad_rows[0])
        owner = f"token {tokens[row]!r}" if row < len(tokens) else "no token"
        raise CheckpointError(
            f"{name}: row {row} ({owner}) is zero or not finite after propagation; look at the models with "
            "`lep inspect` and give others"
        )


def _describe_fit(
    projection: Projection,
    projections: Sequence[Projection],
    shared: _SharedInputs,
    norms: Tensor,
    *,
    fit_seconds: float,
    write_seconds: float,
) -> ProjectionFit:
    errors = projection.heldout_error or HeldoutError(all=None, shared=None, composed=None, by_label=())
    by_script = zip(shared.scripts, errors.by_label, strict=False)
    is_shared = shared.vocabulary_map.shared
    is_composed = (shared.vocabulary_map.lengths > 0) & ~is_shared
    norms = norms[: len(is_shared)]
    by_method = {other.method: other.heldout_error.all if other.heldout_error else None for other in projections}
    return ProjectionFit(
        method=projection.method,
        rows=projection.rows,
        rank=projection.rank,
        condition=projection.condition,
        residual=projection.residual,
        residual_heldout=errors.all,
        coverage=projection.coverage,
        distance_from_identity=projection.distance_from_identity,
        solver=projection.solver,
        residual_heldout_shared=errors.shared,
        residual_heldout_composed=errors.composed,
        residual_heldout_by_script={script: error for script, error in by_script if error is not None},
        residual_heldout_by_method=by_method if len(projections) > 1 else {},
        norms_shared=_compute_quantiles(norms[is_shared]),
        norms_composed=_compute_quantiles(norms[is_composed]),
        fit_seconds=fit_seconds,
        write_seconds=write_seconds,
    )


def _compute_quantiles(norms: Tensor) -> dict[str, float]:
    if not len(norms):
        return {}
    values = norms.sort().values
    return {f"{share:.0%}": float(values[round(share * (len(values) - 1))]) for share in _QUANTILES}
