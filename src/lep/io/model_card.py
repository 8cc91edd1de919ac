"""Read the card of a published model or data set: the front matter of its README.md, and its license files."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from lep.io.model_folder import read_json

MODEL_CARD_FILE = "README.md"
"""File name of a model card on the Hugging Face Hub."""

REQUIRED_NAME_PREFIX_KEY = "required_name_prefix"
"""Key of a card's front matter, which the card of a model that lep made has if a parent's license demands it."""

PARENTS_FOLDER = "parents"
"""In the folder of a model made by lep: cards and licenses of the models that it is made from, by name."""

_LEGAL_FILE_PATTERN = re.compile(r"(licen[cs]e|notice|copying|use_policy|terms)[^/]*", re.IGNORECASE)
_HUB_CACHE_PATTERN = re.compile(r"models--([^/]+?)--([^/]+)")
_NAME_PREFIX_PATTERN = r"(?:huggingface\.co/|hf\.co/|(?<![^\s\"'`(\[]))"


@dataclass(frozen=True)
class DeclaredLicense:
    """A license as a card states it."""

    id: str
    """The identifier on the hub; where that is `other`, the `license_name` of the card."""
    link: str | None = None
    is_hub_id: bool = True
    """Whether `id` is an identifier of the hub."""


@dataclass(frozen=True)
class CardMetadata:
    """The front matter of a model card."""

    licenses: tuple[DeclaredLicense, ...] = ()
    languages: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    base_models: tuple[str, ...] = ()
    """Hub ids of the models that it was made from."""
    required_name_prefix: str | None = None
    """What a published model's name must begin with, by the license of a parent (`REQUIRED_NAME_PREFIX_KEY`)."""


def read_card_metadata(folder: Path) -> CardMetadata | None:
    """Read the front matter of the card in a folder; `None` without a card, and empty where it is not YAML."""
    file = folder / MODEL_CARD_FILE
    if not file.is_file():
        return None
    match = REGEX_YAML_BLOCK.search(file.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        data: Any = yaml.safe_load(match.group(2)) if match else {}
    except yaml.YAMLError:
        data = {}
    data = data if isinstance(data, dict) else {}
    pipeline = data.get("pipeline_tag")
    return CardMetadata(
        _parse_licenses(data),
        _parse_string_list(data.get("language")),
        pipeline if isinstance(pipeline, str) else None,
        _parse_string_list(data.get("base_model")),
        prefix if isinstance(prefix := data.get(REQUIRED_NAME_PREFIX_KEY), str) else None,
    )


def find_repo_id(folder: Path) -> str | None:
    """Return `owner/name` of a model on the hub, if its folder shows it.

    Folders of the hub's cache are named after it. Elsewhere the card and the configuration mention many models: only a
    name that ends with the folder's name is taken.

    Args:
        folder: a model folder.

    Returns:
        The id, or `None`.
    """
    if match := _HUB_CACHE_PATTERN.search(folder.as_posix()):
        return f"{match[1]}/{match[2]}"
    texts = []
    if (folder / MODEL_CARD_FILE).is_file():
        texts.append((folder / MODEL_CARD_FILE).read_text(encoding="utf-8", errors="replace"))
    if (folder / "config.json").is_file():
        texts.append(str(read_json(folder / "config.json").get("_name_or_path", "")))
    pattern = re.compile(rf"{_NAME_PREFIX_PATTERN}([A-Za-z0-9][\w.-]*/{re.escape(folder.name)})(?!\.?\w|-)")
    return next((match[1] for text in texts if (match := pattern.search(text))), None)


def get_model_name(folder: Path) -> str:
    """Return the last part of a model's hub id, else the name of its folder."""
    return (find_repo_id(folder) or folder.name).rpartition("/")[2]


def find_legal_files(folder: Path) -> list[Path]:
    """Return the card, licenses, notices and terms of use of a folder."""
    if not folder.is_dir():
        return []
    return sorted(
        f
        for f in folder.iterdir()
        if f.is_file() and (f.name == MODEL_CARD_FILE or _LEGAL_FILE_PATTERN.fullmatch(f.name))
    )


def copy_parent_cards(parents: Sequence[Path], target: Path) -> None:
    """Copy the cards and licenses of a model's parents, and of their parents, into `target/parents/NAME`.

    Args:
        parents: folders of the models; a second one of the same name becomes `NAME-2`.
        target: the folder of the new model.
    """
    seen: Counter[str] = Counter()
    for parent in parents:
        name = get_model_name(parent)
        seen[name] += 1
        copy = target / PARENTS_FOLDER / (name if seen[name] == 1 else f"{name}-{seen[name]}")
        for file in find_legal_files(parent):
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / file.name)
        if (parent / PARENTS_FOLDER).is_dir():
            shutil.copytree(parent / PARENTS_FOLDER, target / PARENTS_FOLDER, dirs_exist_ok=True)


def _parse_licenses(data: dict[str, Any]) -> tuple[DeclaredLicense, ...]:
    """Parse `license`; `other` refers to `license_name` and `license_link`, and `unknown` is skipped."""
    name, link = data.get("license_name"), data.get("license_link")
    link = link if isinstance(link, str) else None
    ids = [id_ for id_ in _parse_string_list(data.get("license")) if id_ != "unknown" and (id_ != "other" or name)]
    return tuple(
        DeclaredLicense(str(name), link, is_hub_id=False) if id_ == "other" else DeclaredLicense(id_, link)
        for id_ in ids
    )


def _parse_string_list(value: object) -> tuple[str, ...]:
    """Parse a string or a list of strings; YAML reads the language `no` as False."""
    items = value if isinstance(value, list) else [value]
    return tuple("no" if item is False else item for item in items if isinstance(item, str) or item is False)
