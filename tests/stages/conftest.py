"""Fixtures of the stages' tests: a corpus, an extended tokenizer, and the models of one small family."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lep.config import CollectSettings, InitializeSettings, RetokenizeSettings, Settings
from lep.registry import STAGES, Stage

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NEW_TOKENS = 60

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ': ' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant: ' }}{% endif %}"
)
"""The instruct model's own, unlike the base's."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No listener outlives a test."""
    from lep.progress import set_listener

    yield
    set_listener(None)


@pytest.fixture(scope="session")
def run_stage() -> Callable[..., Any]:
    """`run_stage(settings, out)`: the stage's own `run` on an empty folder; returns its result."""

    def run(settings: Settings, out: Path, *arguments: Any) -> Any:
        out.mkdir(parents=True)
        return find_stage(settings).run(settings, out, *arguments)

    return run


def find_stage(settings: Settings) -> Stage:
    """The stage that takes these settings."""
    return next(stage for stage in STAGES.values() if stage.settings is type(settings))


@pytest.fixture(scope="session")
def tensors() -> Callable[[Path], dict[str, torch.Tensor]]:
    """All tensors of a model folder, by name."""

    def read(folder: Path) -> dict[str, torch.Tensor]:
        return {k: v for shard in sorted(folder.glob("*.safetensors")) for k, v in load_file(shard).items()}

    return read


@pytest.fixture(scope="session")
def text_files(texts: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sentences as .jsonl, by language; ru in documents of one to six sentences."""
    root = tmp_path_factory.mktemp("texts")
    ru = [" ".join(texts["ru"][i : i + 1 + i % 6]) for i in range(0, 600, 3)]
    files = {}
    for language, documents in {"ru": ru, "en": texts["en"][:200]}.items():
        files[language] = root / f"{language}.jsonl"
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents]
        files[language].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


@pytest.fixture(scope="session")
def corpus(text_files, run_stage, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "corpus"
    sources: Any = {language: {"files": [file]} for language, file in text_files.items()}
    run_stage(
        CollectSettings(sources=sources, heldout_fraction=0.1, near_duplicate_threshold=None), out
    )  # they overlap on purpose
    return out


@pytest.fixture(scope="session")
def extended(tokenizers, corpus, run_stage, tmp_path_factory) -> Path:
    """byte_level continued by NEW_TOKENS Russian tokens."""
    out = tmp_path_factory.mktemp("made") / "tokenizer"
    run_stage(
        RetokenizeSettings(base=tokenizers["byte_level"], corpus=corpus, mixture={"ru": 1}, new_tokens=NEW_TOKENS), out
    )
    return out


@pytest.fixture(scope="session")
def bases(tokenizers, make_model, tmp_path_factory) -> dict[str, Path]:
    """Base models with byte_level's vocabulary: `tied` in one file; `untied` in bfloat16 and three shards."""
    root = tmp_path_factory.mktemp("bases")
    return {
        "tied": make_model(root / "tied", tokenizers["byte_level"], tied=True),
        "untied": make_model(root / "untied", tokenizers["byte_level"], tied=False, dtype="bfloat16", shards=3),
    }


@pytest.fixture(scope="session")
def initialized(bases, extended, run_stage, tmp_path_factory) -> dict[str, Path]:
    """The bases with tables for `extended`, not padded."""
    root = tmp_path_factory.mktemp("initialized")
    for kind, base in bases.items():
        run_stage(InitializeSettings(base=base, tokenizer=extended, pad_to_multiple_of=1), root / kind)
    return {kind: root / kind for kind in bases}


@pytest.fixture(scope="session")
def rewrite() -> Callable[[Path, Path, Callable[[str, torch.Tensor], torch.Tensor]], Path]:
    """`rewrite(source, target, change)`: a copy of a model folder, each tensor being what `change` makes of it."""

    def rewrite(source: Path, target: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
        target.mkdir(parents=True)
        for item in source.iterdir():
            if item.suffix != ".safetensors" and item.name != "manifest.json":
                (target / item.name).write_bytes(item.read_bytes())
        for shard in sorted(source.glob("*.safetensors")):
            inside = {name: change(name, tensor) for name, tensor in load_file(shard).items()}
            save_file(inside, target / shard.name, metadata={"format": "pt"})
        return target

    return rewrite


@pytest.fixture(scope="session")
def vary(rewrite) -> Callable[..., Path]:
    """`vary(source, target, tables, rows, seed)`: a copy of a model folder whose weights differ a little.

    With `tables`, only the tables do; with `rows`, only those of their rows.
    """

    def vary(source: Path, target: Path, *, tables: bool = False, rows: list[int] | None = None, seed: int = 1) -> Path:
        generator = torch.Generator().manual_seed(seed)

        def varied(name: str, tensor: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(tensor.shape, generator=generator) * 0.05
            if name in (EMBED, HEAD) and rows is not None:
                noise[[i for i in range(len(noise)) if i not in set(rows)]] = 0
            return (tensor.float() + noise).to(tensor.dtype) if name in (EMBED, HEAD) or not tables else tensor

        return rewrite(source, target, varied)

    return vary


@pytest.fixture(scope="session")
def instructs(bases, vary, tmp_path_factory) -> dict[str, Path]:
    """Siblings of the bases: every weight differs, another chat template, two ends of sequence."""
    root = tmp_path_factory.mktemp("instructs")
    for kind, base in bases.items():
        folder = vary(base, root / kind, seed=7)
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        generation = {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 0, "_from_model_config": False}
        (folder / "generation_config.json").write_text(json.dumps(generation | {"temperature": 0.7, "do_sample": True}))
    return {kind: root / kind for kind in bases}


@pytest.fixture(scope="session")
def adapteds(initialized, vary, tmp_path_factory) -> dict[str, Path]:
    """The initialized models after a training of all rows of their tables: here, a nudge."""
    root = tmp_path_factory.mktemp("adapteds")
    return {kind: vary(folder, root / kind, tables=True, seed=3) for kind, folder in initialized.items()}


@pytest.fixture(scope="session")
def conversations(texts, tmp_path_factory) -> Path:
    """Instruction data with a skill, for tuning and as items."""
    file = tmp_path_factory.mktemp("data") / "skills.jsonl"
    rows = []
    for i in range(16):
        skill, text = ("first", texts["ru"][i]) if i % 2 else ("last", texts["en"][i])
        answer = text.split()[0 if i % 2 else -1]
        rows.append(
            {
                "skill": skill,
                "prompt": [{"role": "user", "content": f"{skill}: {text}"}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        )
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """`interrupt(step)`: the next training breaks off after so many steps, as by Ctrl-C; with 0, none does."""
    from lep.training.callbacks import TrainingMonitor

    original = TrainingMonitor.on_step_end
    limit = {"step": 0}

    def on_step_end(self: TrainingMonitor, args: Any, state: Any, control: Any, **more: Any) -> None:
        if limit["step"] and state.global_step > limit["step"]:
            raise KeyboardInterrupt
        original(self, args, state, control, **more)

    monkeypatch.setattr(TrainingMonitor, "on_step_end", on_step_end)
    yield lambda step: limit.update(step=step)


@pytest.fixture(scope="session")
def make_artifact() -> Callable[..., Any]:
    """`make_artifact(settings, out)`: run a stage as the pipeline does, with manifest and resumption."""
    from lep.io.artifact import Manifest, read_manifest
    from lep.pipeline import PipelineStep, run_steps

    def make(settings: Settings, out: Path) -> Manifest:
        stage = find_stage(settings)
        step = PipelineStep(stage.name, stage, settings, out)
        run_steps([step], replace=False, on_start=lambda _: None, on_end=lambda *_: None)
        return read_manifest(out)

    return make


@pytest.fixture(scope="session")
def make_result(make_artifact) -> Callable[..., Any]:
    """`make_result(settings, out)`: the result in the manifest that `make_artifact` writes."""
    from lep.registry import parse_stage_result

    return lambda settings, out: parse_stage_result(
        make_artifact(settings, out).result, stage=find_stage(settings).name
    )
