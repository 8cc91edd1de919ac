"""The text of a model card: title, summary, sources, stages and limitations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lep.config import flatten, runtime_only_fields
from lep.io.artifact import Manifest
from lep.io.model_folder import read_json
from lep.registry import STAGES, parse_stage_result
from lep.reporting import formatting
from lep.reporting.card.evaluation import build_stage_table
from lep.reporting.card.licenses import License, LicenseRestriction, find_required_name_prefix
from lep.reporting.card.provenance import Lineage, LineageStage, ParentModel
from lep.reporting.i18n import language_name
from lep.reporting.page.stage_summaries import describe_stage
from lep.reporting.run_data import collect_library_versions
from lep.results.stages import PretrainingResult, RetokenizationResult, StageResult

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")

StageResults = Sequence[tuple[LineageStage, StageResult | None]]


@dataclass(frozen=True)
class StageText:
    """What a card says of a model that a stage made."""

    title_suffix: str = ""
    summary: str = "A model made by lep."
    limitation: str | None = None


_STAGE_TEXTS: Mapping[str, StageText] = {
    "initialize": StageText(
        ", initialized",
        "The embeddings of its new tokens are means of old ones: a starting point for continued pre-training, not a "
        "model to use.",
        "The embeddings of the new tokens are not trained.",
    ),
    "pretrain": StageText(
        ", continued pre-training", "A language model with a new vocabulary and continued pre-training."
    ),
    "tune": StageText(", fine-tuned on conversations", "A model fine-tuned on conversations."),
    "propagate": StageText(
        "",
        "An instruct model with a new vocabulary. The embeddings that its base model learned for the new tokens were "
        "transferred in closed form, without training of the instruct model.",
        "The instruct model was not trained with the new tokens: their embeddings are computed.",
    ),
    "calibrate": StageText(
        ", calibrated",
        "An instruct model with a new vocabulary, fine-tuned on answers that the instruct model gave with its own "
        "vocabulary.",
    ),
}
"""By stage that made the model; another stage has the text of `StageText()`."""


@dataclass(frozen=True)
class CardStep:
    """One stage in words."""

    stage: str
    sources: str
    sentence: str
    duration: str
    settings: tuple[str, ...]


def build_card_context(folder: Path, lineage: Lineage) -> dict[str, Any]:
    """Build the values of the card template, except for the evaluation.

    Args:
        folder: Folder of the model.
        lineage: Provenance of the model.

    Returns:
        The values by name.

    Raises:
        ArtifactError: The result of a stage has a missing or wrong field.
    """
    results = [(run, parse_stage_result(run.manifest.result, stage=run.manifest.stage)) for run in lineage.stages]
    language = _find_target_language(lineage)
    text = _STAGE_TEXTS.get(lineage.stages[-1].manifest.stage, StageText())
    tables = (build_stage_table(result, name=run.name) for run, result in results)
    return {
        "title": _build_title(lineage, language, suffix=text.title_suffix),
        "notices": list(dict.fromkeys(license_.notice for license_ in lineage.licenses if license_.notice)),
        "summary": " ".join((text.summary, *_describe_gains(results, language))),
        "warnings": list_license_warnings(lineage),
        "has_chat_template": _has_chat_template(folder),
        "origins": _list_origins(lineage),
        "steps": [_build_step(run, result, language) for run, result in results],
        "tables": [table for table in tables if table],
        "limitations": _list_limitations(results),
        "versions": _format_versions(lineage),
        "duration": formatting.format_duration(sum(run.manifest.seconds for run in lineage.stages)),
    }


def list_license_warnings(lineage: Lineage) -> list[str]:
    """List what licenses forbid or demand of the name, and models whose license is unknown."""
    names: dict[License, dict[str, None]] = {}
    for source in (*lineage.parents, *lineage.texts):
        license_ = source.license
        if license_ and (license_.restriction >= LicenseRestriction.NON_COMMERCIAL or license_.name_prefix):
            names.setdefault(license_, {})[source.name] = None
    unknown = [parent.name for parent in lineage.parents if parent.contributes_weights and parent.license is None]
    return [
        *(
            f"the license of {' and '.join(sources)}, {license_.id}: {license_.summary}"
            for license_, sources in names.items()
        ),
        *(f"the license of {name} is unknown; ask its publisher before you share this model" for name in unknown),
    ]


def list_languages(lineage: Lineage) -> list[str]:
    """List the languages that the model was trained on, that of the vocabulary first, then those of its parents."""
    trained = [
        code
        for run in lineage.stages
        for key in ("mixture", "sources")
        for code in run.manifest.settings.get(key) or ()
    ]
    inherited = [code for parent in lineage.parents if parent.card for code in parent.card.languages]
    return [
        code
        for code in dict.fromkeys([_find_target_language(lineage), *trained, *inherited])
        if _LANGUAGE_CODE.fullmatch(code)
    ]


def _find_target_language(lineage: Lineage) -> str:
    """Return the main language of the vocabulary's mixture, else of the training's, else the first of the corpus."""
    for stage, key in (("retokenize", "mixture"), ("pretrain", "mixture"), ("collect", "sources")):
        for run in lineage.stages:
            shares = run.manifest.settings.get(key) if run.manifest.stage == stage else None
            if shares:
                return max(shares, key=lambda code: shares[code]) if key == "mixture" else next(iter(shares))
    return ""


def _build_title(lineage: Lineage, language: str, *, suffix: str) -> str:
    """Build the title from the most similar parent and the last stage, with the prefix that a license demands."""
    name = lineage.parents[0].name if lineage.parents else lineage.stages[-1].name
    if not {run.manifest.stage for run in lineage.stages}.isdisjoint({"initialize", "propagate"}):
        name += f" with a vocabulary for {language_name(language)}" if language else " with a new vocabulary"
    prefix = find_required_name_prefix(lineage.licenses) or ""
    title = name + suffix
    return title if title.startswith(prefix) else f"{prefix}: {title}"


def _describe_gains(results: StageResults, language: str) -> list[str]:
    """Describe in one sentence what the vocabulary gains."""
    for _, result in results:
        change = result.characters_per_token.get(language) if isinstance(result, RetokenizationResult) else None
        if change:
            before, after = map(formatting.format_characters_per_token, (change.before, change.after))
            return [f"A token has {after} characters of {language_name(language)} on average, {before} before."]
    return []


def _has_chat_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        settings.is_file() and bool(read_json(settings).get("chat_template"))
    )


def _list_origins(lineage: Lineage) -> list[tuple[str, ...]]:
    """List the models and texts that the model was made from, with their licenses."""
    models = [
        (", ".join(parent.roles), _format_model(parent), *_format_license(parent.license)) for parent in lineage.parents
    ]
    texts = [
        (
            text.role,
            _format_hub_link(text.dataset_id, prefix="datasets/") if text.dataset_id else f"`{text.name}`",
            *_format_license(text.license),
        )
        for text in lineage.texts
    ]
    return models + texts


def _format_model(parent: ParentModel) -> str:
    if parent.hub_id:
        return _format_hub_link(parent.hub_id)
    return ", from ".join((f"`{parent.name}`", *map(_format_hub_link, parent.hub_ids)))


def _format_hub_link(hub_id: str, *, prefix: str = "") -> str:
    return f"[{hub_id}](https://huggingface.co/{prefix}{hub_id})"


def _format_license(license_: License | None) -> tuple[str, str]:
    if license_ is None:
        return "unknown: ask", ""
    return f"[{license_.id}]({license_.link})" if license_.link else license_.id, license_.summary


def _build_step(run: LineageStage, result: StageResult | None, language: str) -> CardStep:
    return CardStep(
        run.manifest.stage,
        ", ".join(f"{role} `{name}`" for role, name in run.sources),
        describe_stage(run.manifest.stage, [result] if result else [], language=language),
        formatting.format_duration(run.manifest.seconds),
        _format_settings(run.manifest),
    )


def _format_settings(manifest: Manifest) -> tuple[str, ...]:
    """Format the settings without inputs and runtime-only ones, which may contain addresses."""
    stage = STAGES.get(manifest.stage)
    try:
        settings = stage.settings.model_validate(manifest.settings) if stage else None
    except ValidationError:
        settings = None
    if settings is None:
        return ("of another version of lep",)
    hidden = {*manifest.inputs, *runtime_only_fields(settings)}
    return tuple(
        f"`{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"
        for key, value in flatten(manifest.settings).items()
        if key not in hidden and value is not None
    )


def _list_limitations(results: StageResults) -> list[str]:
    stages = [run.manifest.stage for run, _ in results]
    limitations = [
        _describe_new_token_exposure(run.name, result)
        for run, result in results
        if isinstance(result, PretrainingResult)
    ]
    if limitation := _STAGE_TEXTS.get(stages[-1], StageText()).limitation:
        limitations.append(limitation)
    if "propagate" in stages:
        limitations.append("The instruct model may have lost skills that measurements on text do not show.")
    return [
        *limitations,
        "Quality may have dropped in languages that continued pre-training did not include.",
        "Safety and factual accuracy of the answers were not measured. The statements on bias and intended use in the "
        "cards of the parent models also apply to this model.",
    ]


def _describe_new_token_exposure(name: str, result: PretrainingResult) -> str:
    """Describe how often a training saw the new tokens."""
    text = f"`{name}` was trained on {formatting.format_magnitude(result.trained_tokens)} tokens of text"
    counts = result.new_tokens
    if counts is None or not counts.known:
        return f"{text}."
    known, never, rarely = map(
        formatting.format_count, (counts.known, counts.never_seen, counts.seen_less_than_100_times)
    )
    return f"{text}; of {known} new tokens, {never} never occur in it and {rarely} occur less than 100 times."


def _format_versions(lineage: Lineage) -> str:
    versions = collect_library_versions((run.manifest for run in lineage.stages), separator=" and ")
    return ", ".join(f"{library} {version}" for library, version in versions.items())
