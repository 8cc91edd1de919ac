"""LoRA adapters, broken: of the instruct model on the base, and of the adapted model on the initialized one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .edits import all_of, content, gone, put, tensors
from .family import DIM, EMBED, LAYER, World, write
from .mutations_of_families import Cases, setting, several

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PART = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
A, B = PART.format("A"), PART.format("B")


def adapter(which: str, *changes: Callable[[Path], object]) -> Callable[[World], None]:
    """The model is a LoRA adapter, on the base or on the adapted model; it means the merged one."""

    def change(world: World) -> None:
        chance, place = torch.Generator().manual_seed(1), world.root / "adapter"
        a, b = torch.randn(2, DIM, generator=chance), torch.randn(DIM, 2, generator=chance)
        place.mkdir()
        save_file({A: a, B: b}, place / WEIGHTS)
        write(place / CONFIG, {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["up_proj"]})
        all_of(*changes)(place)
        under = "base" if which == "instruct" else "instruct"
        shutil.copytree(world.root / under, world.root / "merged")
        tensors(lambda inside: inside | {LAYER: inside[LAYER] + 1.5 * b @ a})(world.root / "merged")
        world.means["instruct"] = world.root / "merged"
        if which == "adapted":
            world.means["adapted"] = world.root / "adapted"
            world.settings["adapter_base"] = world.root / "adapted"
        world.settings[which] = place

    return change


def weights(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """The adapter's tensors, edited."""

    def change(place: Path) -> None:
        inside = load_file(place / WEIGHTS)
        save_file(found if (found := edit(inside)) is not None else inside, place / WEIGHTS)

    return change


ADAPTERS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "whole": (lambda place: None, None),
    "no weights": (gone(WEIGHTS), "is absent"),
    "cut": (lambda place: os.truncate(place / WEIGHTS, 300), "fetch the file again"),
    "settings that are no JSON": (content(CONFIG, "{"), "not JSON"),
    "settings that are a list": (content(CONFIG, "[]"), "expected a JSON object"),
    "of another method": (put(CONFIG, peft_type="IA3"), "merge it with peft"),
    "of no method": (put(CONFIG, peft_type=...), "merge it with peft"),
    "of a base that was moved": (put(CONFIG, init_lora_weights="pissa"), "merge it with peft"),
    "with DoRA": (put(CONFIG, use_dora=True), "merge it with peft"),
    "without r": (put(CONFIG, r=...), "r is None, expected"),
    "r is text": (put(CONFIG, r="2"), "r is '2', expected"),
    "r is 0": (put(CONFIG, r=0), "r is 0|has shape"),
    "r is another": (put(CONFIG, r=4), "has shape"),
    "alpha is no number": (put(CONFIG, lora_alpha=float("nan")), "lora_alpha"),
    "a pattern that is none": (put(CONFIG, rank_pattern={"(": 2}), "rank_pattern"),
    "patterns that are a list": (put(CONFIG, rank_pattern=["up_proj"]), "rank_pattern"),
    "modules that are a number": (put(CONFIG, modules_to_save=3), "modules_to_save"),
    "A alone": (weights(lambda w: {A: w[A]}), "lacks its partner"),
    "B of another shape": (weights(lambda w: {A: w[A], B: w[B][:-1].contiguous()}), "has shape"),
    "A and B changed about": (weights(lambda w: {A: w[B], B: w[A]}), "has shape"),
    "NaN in it": (weights(lambda w: {A: w[A] * torch.nan, B: w[B]}), "not finite"),
    "of integers": (weights(lambda w: {A: w[A].to(torch.int8), B: w[B]}), "stored as I8"),
    "a layer that is not there": (weights(lambda w: w | {A.replace("0", "7"): w[A].clone()}), "fits no tensor"),
    "no tensors": (weights(lambda w: {}), "holds no tensor"),
    "a whole model beside it": (
        lambda place: save_file({EMBED: torch.ones(2, 2)}, place / "model.safetensors"),
        "move",
    ),
}
"""Of the instruct and of the adapted model."""

BASELESS: Cases = {
    "adapted is an adapter without its base": (
        several(adapter("adapted"), setting(adapter_base=...)),
        "adapter_base=",
    ),
    "adapted is an adapter of another base": (
        several(
            adapter("adapted"),
            setting(adapter_base="{root}/base"),
            lambda world: world.means.update(adapted=world.root / "base"),
        ),
        None,
    ),
}
