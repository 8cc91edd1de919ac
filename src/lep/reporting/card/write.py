"""Write a model card: a README.md for the Hugging Face hub, from manifests, parents' cards and licenses.

A card contains no path of this machine: models are named by their hub ids, else by their folders' names.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from lep.errors import ArtifactError
from lep.io.artifact import Manifest, compute_fingerprint
from lep.io.atomic import write_atomically
from lep.io.model_card import MODEL_CARD_FILE, REQUIRED_NAME_PREFIX_KEY, copy_parent_cards, find_legal_files
from lep.progress import log_message
from lep.reporting.card.evaluation import escape_cell, render_evaluation_table
from lep.reporting.card.licenses import License, find_required_name_prefix, select_strictest_license
from lep.reporting.card.provenance import Lineage, trace_lineage
from lep.reporting.card.sections import build_card_context, list_languages, list_license_warnings

_EVALUATION_BEGIN, _EVALUATION_END = "<!-- begin of evaluation -->", "<!-- end of evaluation -->"
_NOT_EVALUATED = "Not evaluated yet."


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the README.md of a model, and the cards and licenses of its parents in `parents/`.

    Log what licenses forbid or demand of the name.

    Args:
        folder: Folder of the model, finished except for its manifest.
        manifest: The manifest that will be written there.

    Raises:
        ArtifactError: The manifest of an earlier stage cannot be read.
    """
    lineage = trace_lineage(folder, manifest)
    text = _render_card(folder, lineage)
    copy_parent_cards([parent.folder for parent in lineage.parents], folder)
    (folder / MODEL_CARD_FILE).write_text(text, encoding="utf-8")
    for warning in list_license_warnings(lineage):
        _log_once(warning)


def add_evaluation(model: Path, evaluation: Path) -> None:
    """Insert the table of an evaluation into a model card; the rest of the card stays.

    Args:
        model: Folder of a model.
        evaluation: Folder of an artifact of `evaluate` that measured it.

    Raises:
        ArtifactError: The folder is not an evaluation of this model; or the card has no place for the table.
    """
    file = model / MODEL_CARD_FILE
    before, begin, rest = file.read_text(encoding="utf-8").partition(_EVALUATION_BEGIN)
    _, end, after = rest.partition(_EVALUATION_END)
    if not (begin and end):
        raise ArtifactError(
            f"{file}: no place for the evaluation; put the lines {_EVALUATION_BEGIN} and {_EVALUATION_END} where the "
            "table should be"
        )
    table = render_evaluation_table(evaluation, model_fingerprint=compute_fingerprint(model), model=model)
    write_atomically(file, f"{before}{_EVALUATION_BEGIN}\n\n{table}\n\n{_EVALUATION_END}{after}")


@cache
def _log_once(message: str) -> None:
    """Log a warning once in a process: all models of a pipeline have the same parents."""
    log_message(message)


def _render_card(folder: Path, lineage: Lineage) -> str:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["escape_cell"] = escape_cell
    template = environment.from_string(
        (resources.files("lep.reporting.card") / "card.md.jinja").read_text(encoding="utf-8")
    )
    body = template.render(
        evaluation=f"{_EVALUATION_BEGIN}\n\n{_NOT_EVALUATED}\n\n{_EVALUATION_END}",
        has_parent_cards=any(find_legal_files(parent.folder) for parent in lineage.parents),
        **build_card_context(folder, lineage),
    )
    body = re.sub(r"\n{3,}", "\n\n", body)
    return f"---\n{_build_front_matter(lineage).to_yaml()}\n---\n\n{body}\n"


def _build_front_matter(lineage: Lineage) -> ModelCardData:
    """Build the metadata that the hub and `lep.hub` read."""
    weights = [parent for parent in lineage.parents if parent.contributes_weights]
    bases = list(dict.fromkeys(name for parent in weights for name in parent.hub_ids))
    license_ = _find_strictest_license(lineage)
    is_hub_id = license_ is None or license_.is_hub_id
    pipelines = [parent.card.pipeline_tag for parent in weights if parent.card and parent.card.pipeline_tag]
    optional: dict[str, Any] = {}
    if bases:
        optional["base_model_relation"] = "merge" if len(bases) > 1 else "finetune"
    if prefix := find_required_name_prefix(lineage.licenses):
        optional[REQUIRED_NAME_PREFIX_KEY] = prefix
    return ModelCardData(
        base_model=bases or None,
        language=list_languages(lineage) or None,
        license=license_.id if license_ and is_hub_id else "unknown" if is_hub_id else "other",
        license_name=license_.id if license_ and not is_hub_id else None,
        license_link=(license_.link or MODEL_CARD_FILE) if license_ and not is_hub_id else None,
        library_name="transformers",
        pipeline_tag=next(iter(pipelines), "text-generation"),
        datasets=[text.dataset_id for text in lineage.texts if text.dataset_id] or None,
        tags=["lep"],
        **optional,
    )


def _find_strictest_license(lineage: Lineage) -> License | None:
    """Return the strictest license of parents and texts; None if that of a model whose weights were used is unknown."""
    if any(parent.contributes_weights and parent.license is None for parent in lineage.parents):
        return None
    return select_strictest_license(lineage.licenses)
