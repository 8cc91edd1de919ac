"""Provenance of a model, from manifests: the stages that made it, and the models and texts that it was made from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lep.io.artifact import MANIFEST, Manifest, read_manifest
from lep.io.model_card import CardMetadata, DeclaredLicense, find_repo_id, get_model_name, read_card_metadata
from lep.reporting.card.licenses import License, find_license, select_strictest_license
from lep.reporting.i18n import language_name

_WEIGHT_ROLES = ("instruct", "model", "base", "adapted", "adapter_base")
"""Inputs whose weights go into a model, the ones that it is most similar to first."""

_MODEL_ROLES = (*_WEIGHT_ROLES, "tokenizer", "import_tokens_from", "teacher")
"""Inputs that are models or tokenizers."""

_IGNORED_ROLES = ("judge", "skills", "heldout_items")
"""Inputs of which nothing goes into a model."""


@dataclass(frozen=True)
class LineageStage:
    """One artifact that led to a model; the model itself is the last one."""

    name: str
    """Name of its folder."""
    manifest: Manifest
    sources: tuple[tuple[str, str], ...]
    """Role and name of each of its inputs."""


@dataclass(frozen=True)
class ParentModel:
    """A model that was made elsewhere."""

    name: str
    roles: tuple[str, ...]
    folder: Path
    hub_id: str | None = None
    card: CardMetadata | None = None

    @property
    def license(self) -> License | None:
        """The strictest license that its card states."""
        return _find_declared_license(self.card.licenses if self.card else ())

    @property
    def contributes_weights(self) -> bool:
        """Whether its weights went into the model; otherwise its answers or its vocabulary did."""
        return not set(self.roles).isdisjoint(_WEIGHT_ROLES)

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Its own hub id; if it has none, those of its base models according to its card."""
        return (self.hub_id,) if self.hub_id else self.card.base_models if self.card else ()


@dataclass(frozen=True)
class TextSource:
    """Text that the model was trained on."""

    role: str
    name: str
    license: License | None = None
    dataset_id: str | None = None
    """Name of the data set on the hub."""


@dataclass(frozen=True)
class Lineage:
    """All that led to a model: stages in the order in which they ran, parent models and texts."""

    stages: tuple[LineageStage, ...]
    parents: tuple[ParentModel, ...]
    texts: tuple[TextSource, ...]

    @property
    def licenses(self) -> list[License]:
        """The known licenses of parents, then of texts."""
        return [source.license for source in (*self.parents, *self.texts) if source.license]


def trace_lineage(folder: Path, manifest: Manifest) -> Lineage:
    """Trace a model back through the inputs of manifests.

    An artifact whose own input models are gone counts as a model that was made elsewhere; its card says what it was
    made from.

    Args:
        folder: Folder of the model; it need not be finished.
        manifest: Its manifest, which need not be written yet.

    Returns:
        The lineage.

    Raises:
        ArtifactError: A manifest of an earlier stage cannot be read.
    """
    manifests = dict(_iter_stages(folder.resolve(), manifest))
    stages = tuple(LineageStage(_stage_name(path), item, _list_sources(path, item)) for path, item in manifests.items())
    texts = dict.fromkeys(text for path, item in manifests.items() for text in _iter_text_sources(path, item))
    return Lineage(stages, _find_parents(manifests), tuple(texts))


def _iter_stages(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, Manifest]]:
    """Yield each artifact after its inputs; an input of several artifacts comes several times."""
    for _, path in _iter_inputs(folder, manifest):
        if input_manifest := _read_traceable_manifest(path):
            yield from _iter_stages(path, input_manifest)
    yield folder, manifest


def _find_parents(manifests: Mapping[Path, Manifest]) -> tuple[ParentModel, ...]:
    """Return the models that no stage made, those first that the result is most similar to."""
    roles: dict[Path, dict[str, None]] = {}
    for folder, manifest in manifests.items():
        for role, path in _iter_inputs(folder, manifest):
            if role in _MODEL_ROLES and path not in manifests:
                roles.setdefault(path, {})[role] = None
    parents = [
        ParentModel(
            get_model_name(path),
            tuple(sorted(path_roles, key=_MODEL_ROLES.index)),
            path,
            find_repo_id(path),
            read_card_metadata(path),
        )
        for path, path_roles in roles.items()
    ]
    return tuple(sorted(parents, key=lambda parent: _MODEL_ROLES.index(parent.roles[0])))


def _iter_inputs(folder: Path, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """Yield role and path of each input: `copy_tasks.corpus` has the role `corpus`, `sources.ru.files.0` `sources`."""
    for name, item in manifest.inputs.items():
        role = name.removeprefix("copy_tasks.").partition(".")[0]
        if role not in _IGNORED_ROLES:
            yield role, Path(os.path.normpath(folder / item.path))


def _read_traceable_manifest(path: Path) -> Manifest | None:
    """Read the manifest of an artifact; None if there is none or its own input models are gone."""
    if not (path / MANIFEST).is_file():
        return None
    manifest = read_manifest(path)
    input_models = [input_path for role, input_path in _iter_inputs(path, manifest) if role in _MODEL_ROLES]
    return manifest if all(input_path.exists() for input_path in input_models) else None


def _stage_name(folder: Path) -> str:
    """Return the name of an artifact's folder, also before it is finished."""
    return folder.name.removesuffix(".partial")


def _list_sources(folder: Path, manifest: Manifest) -> tuple[tuple[str, str], ...]:
    return tuple(
        (role, path.name if _read_traceable_manifest(path) else get_model_name(path))
        for role, path in _iter_inputs(folder, manifest)
        if role in _MODEL_ROLES or role == "corpus"
    )


def _iter_text_sources(folder: Path, manifest: Manifest) -> Iterator[TextSource]:
    """Yield the texts that a stage read, from its settings; those of a corpus come with `collect`, which made it."""
    settings = manifest.settings
    sources: list[tuple[str, str, str | Mapping[str, Any]]] = []
    if manifest.stage == "collect":
        for language, source in settings.get("sources", {}).items():
            sources.append((f"text, {language_name(language)}", f"sources.{language}", source))
    data = settings.get("data")
    if isinstance(data, Mapping):
        sources += [("conversations", f"data.{name}", source) for name, source in data.items()]
    elif data:
        sources.append(("conversations", "data", data))
    if prompts := settings.get("prompts"):
        sources.append(("prompts", "prompts", prompts))
    for role, key, source in sources:
        yield _build_text_source(role, source, paths=_find_input_paths(folder, manifest, key))
    if isinstance(teacher := settings.get("teacher"), Mapping):
        yield TextSource("answers", str(teacher["model"]))
    for role, path in _iter_inputs(folder, manifest):
        if role == "corpus" and not _read_traceable_manifest(path):
            yield TextSource("text", path.name)


def _find_input_paths(folder: Path, manifest: Manifest, key: str) -> list[Path]:
    """Return the paths of a setting, which is one input or, for a list, several."""
    return [
        Path(os.path.normpath(folder / item.path))
        for name, item in manifest.inputs.items()
        if name == key or name.startswith(f"{key}.")
    ]


def _build_text_source(role: str, source: str | Mapping[str, Any], *, paths: list[Path]) -> TextSource:
    """Describe one source: local files, or a data set of the hub."""
    options = source if isinstance(source, Mapping) else {}
    dataset = None if paths else options.get("dataset")
    first, *others = [path.name for path in paths] or [str(dataset)]
    name = f"{first} and {len(others)} more" if others else first
    if declared := options.get("license"):
        return TextSource(role, name, find_license(declared), dataset)
    card = read_card_metadata(paths[0]) if paths else None
    return TextSource(role, name, _find_declared_license(card.licenses if card else ()), dataset)


def _find_declared_license(declared: tuple[DeclaredLicense, ...]) -> License | None:
    """Return the strictest of the licenses that a card declares."""
    return select_strictest_license(
        find_license(item.id, link=item.link, is_hub_id=item.is_hub_id) for item in declared
    )
