"""A working folder for each document: what its commands name, but tiny."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lep.cli.main import main
from lep.progress import set_listener

from .documents import ROOT, blocks

SIZES: dict[str, Any] = {
    "collect.heldout_fraction": 0.1,
    "retokenize.new_tokens": 60,
    "pretrain.tokens": 2048,
    "pretrain.sequence_length": 64,
    "pretrain.batch_size": 4,
    "pretrain.micro_batch_size": 4,
    "pretrain.warmup_steps": 1,
    "pretrain.num_evaluations": 1,
    "pretrain.evaluation_characters": 500,
    "tune.batch_size": 4,
    "tune.micro_batch_size": 4,
    "calibrate.batch_size": 4,
    "calibrate.micro_batch_size": 4,
    "calibrate.max_length": 256,
    "calibrate.max_prompts": 12,
    "calibrate.max_new_tokens": 8,
    "calibrate.min_score": 1,
    "calibrate.copy_tasks": None,
    "evaluate.heldout_characters": 2000,
    "evaluate.efficiency": None,
    "report.title": "Tiny",
}
"""Smaller sizes than the documents and recipes have. A random model has no good answers (`min_score`), and there is no
text for `copy_tasks` beyond what is measured."""

_KAZAKH = (
    "Қарт профессор|Кішкентай қыз|Шаршаған жолаушы|Белгісіз суретші|Біздің көршіміз|Жас мұғалім",
    "мұқият оқып шықты|ақыры көрді|кездейсоқ тапты|баяғыда ұмытып кетті|қайтадан жазды|тез аударды",
    "таңғажайып әңгімені|ұзақ хатты|мемлекеттік құжатты|1234 бетті|әдемі суретті|«жаңа» сөздікті",
    "кітапханада|теңіз жағасында|түскі астан кейін|университеттің жанында|таң алдында|сонау 1987 жылы",
)


@pytest.fixture(scope="session")
def shared_folder(texts, tokenizers, make_model, tmp_path_factory) -> Path:
    """The folders and files that documents name, and the demo's run."""
    root = tmp_path_factory.mktemp("shared")
    models, inputs = root / "models", root / "build" / "demo" / "inputs"
    for seed, name in enumerate(("base", "instruct", "chat", "code")):
        make_model(models / name, tokenizers["byte_level"], tied=False, seed=seed)  # tied random models predict badly
        (models / name / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": [2, 0]}')
    words = [
        f"base={models / 'base'}",
        f"tokenizer={tokenizers['russian_byte_level']}",
        f"out={models / 'initialized'}",
    ]
    assert main(["initialize", *words]) == 0
    shutil.copytree(models / "initialized", models / "adapted", ignore=shutil.ignore_patterns("manifest.json"))
    shutil.copytree(models / "base", inputs / "published")
    _write_adapter(models / "initialized", models / "adapter")
    every = texts | {"kk": _make_kazakh_texts(600)}
    for language, documents in every.items():
        _write_jsonl(
            root / "texts" / f"{language}.jsonl", [{"text": document} for document in dict.fromkeys(documents)]
        )
        shutil.copy(root / "texts" / f"{language}.jsonl", inputs)
    for name, count in {"skills_train": 16, "skills_heldout": 2}.items():
        _write_jsonl(inputs / f"{name}.jsonl", [_make_item(text) for text in texts["ru"][:count]])
    _write_jsonl(root / "prompts.jsonl", [{"prompt": document} for document in every["kk"][:16]])
    shutil.copytree(ROOT / "recipes", root / "recipes")
    _write_small({f"recipes/{path.name}": path.read_text() for path in ROOT.glob("recipes/demo*.yaml")}, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["run", "recipes/demo.yaml"]) == 0  # as `make demo` does
        three = [f"{name}=models/{name}" for name in ("base", "adapted", "instruct")]
        assert main(["propagate", *three, "out=models/propagated"]) == 0
    set_listener(None)
    return root


@pytest.fixture
def working_folder(shared_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`working_folder(document)`: a copy of `shared_folder`, with the files that the document shows."""

    def make(document: str) -> Path:
        shutil.copytree(shared_folder, tmp_path, dirs_exist_ok=True)
        _write_small({block.title: block.body for block in blocks(document, "yaml") if block.title}, tmp_path)
        return tmp_path

    return make


def _write_small(recipes: dict[str, str], folder: Path) -> None:
    for name, body in recipes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(_resize(yaml.safe_load(body)), sort_keys=False))


def _make_kazakh_texts(count: int) -> list[str]:
    chosen = random.Random("kk")
    parts = [slot.split("|") for slot in _KAZAKH]
    return [" ".join(map(chosen.choice, parts)) + "." for _ in range(count)]


def _resize(recipe: dict[str, Any]) -> dict[str, Any]:
    """Put the sizes above into the stages that a recipe has."""
    for path, size in SIZES.items():
        *parents, name = path.split(".")
        settings: Any = recipe
        for parent in parents:
            settings = (settings or {}).get(parent)
        if settings:
            settings[name] = size
    return recipe


def _write_adapter(model: Path, out: Path) -> None:
    """Write a random LoRA adapter of a model's layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings).save_pretrained(out)


def _make_item(text: str) -> dict[str, Any]:
    turns = {"prompt": ("user", text), "completion": ("assistant", text.split()[-1])}
    return {"skill": "last"} | {key: [{"role": role, "content": content}] for key, (role, content) in turns.items()}


def _write_jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
