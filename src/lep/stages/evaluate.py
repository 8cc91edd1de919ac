"""Models + held-out text and items → numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from lep.config import Evaluate
from lep.core.metrics import bits_per_byte, symbols_per_token
from lep.engine.likelihood import total_bits
from lep.engine.models import document_prefix, load_model, load_tokenizer
from lep.errors import DataError
from lep.evaluation.generation import SHOWN, answer_items, score, side_by_side
from lep.evaluation.speed import measure_speed, openings
from lep.extras import need
from lep.io.corpus import corpus_languages, heldout_excerpt
from lep.io.items import read_items
from lep.io.once import once
from lep.progress import note, progress

NOTHING = {"symbols_per_token": {}, "bits_per_byte": {}, "skills": None, "answers": []}
"""What is found without texts and items."""


def run(settings: Evaluate, out: Path) -> dict[str, Any]:
    """Measure one thing after the other; files in `out` keep each as soon as it is done."""
    benchmark = _benchmark(settings, out)
    texts = _texts(settings)
    items = read_items(settings.skills, required=("skill",)) if settings.skills else []
    found = _language(settings, texts, items, out)
    speeds = _speed(settings, texts, out)
    return {
        "models": {
            name: {key: value for key, value in numbers.items() if key != "answers"}
            | {"speed": speeds[name]["speed"] if speeds else None}
            for name, numbers in found.items()
        },
        "answers": side_by_side(items, {name: numbers["answers"] for name, numbers in found.items()}),
        "continuations": _continuations(texts, speeds, settings) if speeds else [],
        "benchmark": benchmark(),  # the last: when a task of it fails, all else is kept
    }


def _texts(settings: Evaluate) -> dict[str, list[str]]:
    """The held-out text of each language."""
    if not settings.corpus:
        return {}
    texts = {
        language: heldout_excerpt(settings.corpus, language, characters=settings.characters)
        for language in corpus_languages(settings.corpus)
    }
    if settings.speed_language and settings.speed_language not in texts:
        raise DataError(
            f"{settings.corpus}: no text of language {settings.speed_language!r} to measure speed with; "
            f"it has: {', '.join(texts)}"
        )
    return texts


def _language(
    settings: Evaluate, texts: Mapping[str, Sequence[str]], items: Sequence[Mapping[str, Any]], out: Path
) -> dict[str, dict[str, Any]]:
    """Held-out text and items, model by model; `out/models/NAME.json` has all answers."""
    if not texts and not items:
        return {name: dict(NOTHING) for name in settings.models}
    return {
        name: once(out / "models" / f"{name}.json", partial(_measure, path, name, texts, items, settings))
        for name, path in settings.models.items()
    }


def _measure(
    path: Path,
    name: str,
    texts: Mapping[str, Sequence[str]],
    items: Sequence[Mapping[str, Any]],
    settings: Evaluate,
) -> dict[str, Any]:
    model, tokenizer = load_model(path, dtype=settings.dtype), load_tokenizer(path)
    prefix = document_prefix(tokenizer)
    symbols, bits = {}, {}
    for language, documents in texts.items():
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents]
        tokens = sum(map(len, ids))
        symbols[language] = symbols_per_token(documents, tokens=tokens)
        with progress(f"{name}: reading {language}", total=tokens, unit="tokens") as advance:
            total = total_bits(model, ids, prefix=prefix, block=settings.block, advance=advance)
        bits[language] = bits_per_byte(documents, bits=total)
    answers = answer_items(model, tokenizer, items) if items else []
    skills = score(items, answers) if items else None
    shown = ", ".join(f"{language} {value:.4f}" for language, value in bits.items())
    note(f"{name}: bits per byte {shown}" + (f", skills {skills['all']['accuracy']:.3f}" if skills else ""))
    return {
        "symbols_per_token": symbols,
        "bits_per_byte": bits,
        "skills": skills,
        "answers": [asdict(answer) for answer in answers],
    }


def _benchmark(settings: Evaluate, out: Path) -> Callable[[], dict[str, Any] | None]:
    """What runs Darumeru, in `out/benchmark/NAME/TASK.jsonl`; how the models can be asked is found out at once."""
    if not settings.benchmark:
        return lambda: None
    need("eval", what="benchmark")
    from lep.evaluation.benchmark import candidates, run_benchmark

    asked = candidates(settings.benchmark, settings.models)
    reference = settings.reference or asked[0].name
    return partial(
        run_benchmark, settings.benchmark, asked, reference=reference, dtype=settings.dtype, out=out / "benchmark"
    )


def _speed(settings: Evaluate, texts: Mapping[str, Sequence[str]], out: Path) -> dict[str, Any]:
    """Speed of all models, in `out/speed.json`; nothing when no language is named."""
    if not settings.speed_language:
        return {}
    return once(out / "speed.json", partial(_speeds, settings, openings(texts[settings.speed_language])))


def _speeds(settings: Evaluate, prompts: Sequence[str]) -> dict[str, Any]:
    """Each model in turn, several rounds, so that a slow minute of the machine meets them all."""
    rounds: dict[str, list[Any]] = {name: [] for name in settings.models}
    with progress("measuring speed", total=settings.speed_rounds * len(rounds), unit="models") as advance:
        for _ in range(settings.speed_rounds):
            for name, path in settings.models.items():
                model = load_model(path, dtype=settings.dtype)
                rounds[name].append(measure_speed(model, load_tokenizer(path), prompts))
                advance(1)
    return {
        name: {
            "speed": {
                "tokens_per_second": median(speed.tokens_per_second for speed in speeds),
                "characters_per_second": median(speed.characters_per_second for speed in speeds),
            },
            "texts": [asdict(answer) for answer in speeds[0].answers],
        }
        for name, speeds in rounds.items()
    }


def _continuations(
    texts: Mapping[str, Sequence[str]], speeds: Mapping[str, Any], settings: Evaluate
) -> list[dict[str, Any]]:
    prompts = openings(texts[str(settings.speed_language)])[:SHOWN]
    return [
        {"prompt": prompt, "texts": {name: found["texts"][i] for name, found in speeds.items()}}
        for i, prompt in enumerate(prompts)
    ]
