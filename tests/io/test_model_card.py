"""What cards of others say is read as far as it is certain; nothing is guessed, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.io.model_card import (
    CardMetadata,
    DeclaredLicense,
    copy_parent_cards,
    find_repo_id,
    get_model_name,
    read_card_metadata,
)


def model(folder: Path, *, card: str | None = None, config: dict | None = None, **files: str) -> Path:
    folder.mkdir(parents=True)
    if card is not None:
        files["README.md"] = card
    if config is not None:
        files["config.json"] = json.dumps(config)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("license: mit", CardMetadata((DeclaredLicense("mit"),))),
        ("license: [mit, apache-2.0]", CardMetadata((DeclaredLicense("mit"), DeclaredLicense("apache-2.0")))),
        (
            "license: other\nlicense_name: mrl\nlicense_link: https://a.b",
            CardMetadata((DeclaredLicense("mrl", "https://a.b", False),)),
        ),
        ("license: other", CardMetadata()),
        ("license: unknown", CardMetadata()),
        ("language: no", CardMetadata(languages=("no",))),
        ("language: [en, ru]\npipeline_tag: image-text-to-text", CardMetadata((), ("en", "ru"), "image-text-to-text")),
        ("base_model: a/b", CardMetadata(base_models=("a/b",))),
        ("license: 3\nlanguage:\n- {a: b}", CardMetadata()),
        ("- a list", CardMetadata()),
        ("not: yaml: at all: [", CardMetadata()),
    ],
)
def test_front_matter_is_read(front: str, expected: CardMetadata, tmp_path: Path) -> None:
    assert read_card_metadata(model(tmp_path / "m", card=f"---\n{front}\n---\n# A model\n")) == expected


def test_no_card_differs_from_a_card_without_front_matter(tmp_path: Path) -> None:
    assert read_card_metadata(model(tmp_path / "a")) is None
    assert read_card_metadata(model(tmp_path / "b", card="# A model\n")) == CardMetadata()


@pytest.mark.parametrize(
    ("card", "config", "expected"),
    [
        ('`AutoModel.from_pretrained("Qwen/Qwen3-4B")`', None, "Qwen/Qwen3-4B"),
        ("license_link: https://huggingface.co/Qwen/Qwen3-4B/blob/main/LICENSE", None, "Qwen/Qwen3-4B"),
        ("See [it](https://hf.co/Qwen/Qwen3-4B).", None, "Qwen/Qwen3-4B"),
        ("made from Qwen/Qwen3-4B-Base, as Qwen/Qwen3-4B.gguf", None, None),
        ("at https://github.com/Qwen/Qwen3-4B, in models/Qwen/Qwen3-4B", None, None),
        (None, {"_name_or_path": "Qwen/Qwen3-4B"}, "Qwen/Qwen3-4B"),
        (None, {"_name_or_path": "/data/Qwen/Qwen3-4B"}, None),
        (None, {"_name_or_path": "Qwen/Qwen3-8B"}, None),
        (None, None, None),
    ],
)
def test_a_hub_id_must_end_with_the_name_of_the_folder(card, config, expected, tmp_path: Path) -> None:
    assert find_repo_id(model(tmp_path / "Qwen3-4B", card=card, config=config)) == expected


def test_folders_of_the_hub_cache_give_the_id(tmp_path: Path) -> None:
    folder = model(tmp_path / "hub" / "models--meta-llama--Meta-Llama-3-8B" / "snapshots" / "8cde5ca83")
    assert (find_repo_id(folder), get_model_name(folder)) == ("meta-llama/Meta-Llama-3-8B", "Meta-Llama-3-8B")


def test_cards_and_licenses_of_all_parents_are_copied(tmp_path: Path) -> None:
    first = model(tmp_path / "a" / "chat", card="one", LICENSE="free", **{"USE_POLICY.md": "be kind", "notes.txt": "x"})
    second = model(tmp_path / "b" / "chat", card="two")
    made = model(tmp_path / "made", card="ours")
    model(made / "parents" / "base", card="the base's")
    copy_parent_cards([first, second, made, tmp_path / "gone"], tmp_path / "out")
    files = {str(p.relative_to(tmp_path / "out/parents")): p.read_text() for p in (tmp_path / "out").rglob("*.*")}
    assert files == {
        "chat/README.md": "one",
        "chat/USE_POLICY.md": "be kind",
        "chat-2/README.md": "two",
        "made/README.md": "ours",
        "base/README.md": "the base's",
    }
    assert (tmp_path / "out/parents/chat/LICENSE").read_text() == "free"
