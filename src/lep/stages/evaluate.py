"""Models + held-out text and items → numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lep.config import Evaluate
from lep.core.metrics import bits_per_byte, symbols_per_token
from lep.data.document_tokens import document_prefix
from lep.data.eval_items import read_items
from lep.evaluation.continuations import Opening, continue_openings, openings, shown
from lep.evaluation.efficiency.measure import measure_efficiency
from lep.evaluation.side_effects.measure import compare_side_effects, measure_side_effects
from lep.evaluation.side_effects.wrong_script import pairs, written_in_benchmark, wrong_scripts
from lep.evaluation.skills import answer_items, expected, score, side_by_side
from lep.evaluation.texts import read_texts
from lep.evaluation.tokenize import encode
from lep.io.atomic import once
from lep.modeling.likelihood import total_bits
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import note, progress

NOTHING = {"symbols_per_token": {}, "bits_per_byte": {}, "skills": None, "answers": [], "continuations": []}
"""What is found without texts and items."""


def run(settings: Evaluate, out: Path) -> dict[str, Any]:
    """Measure one thing after the other; files in `out` keep each as soon as it is done."""
    run_benchmark = _benchmark(settings, out)
    texts = read_texts(settings)
    items = read_items(settings.skills, required=("skill",)) if settings.skills else []
    begun = openings(texts.heldout | texts.other, count=settings.continuations) if settings.continuations else []
    found = _language(settings, texts.heldout, items, begun, out)
    efficiency = _efficiency(settings, texts.all, out)
    side_effects = _side_effects(settings, texts.other, out)
    benchmark = run_benchmark()
    if side_effects:
        for name, numbers in found.items():
            answers = {
                "skills": pairs(map(expected, items), numbers["answers"]),
                "continuations": pairs((opening.prompt for opening in begun), numbers["continuations"]),
                "benchmark": written_in_benchmark(out / "benchmark" / name),
            }
            side_effects["models"][name]["wrong_script"] = wrong_scripts(answers)
    speeds = _speeds(efficiency, settings)
    return {
        "models": {
            name: {key: value for key, value in numbers.items() if key not in ("answers", "continuations")}
            | {"speed": speeds.get(name)}
            for name, numbers in found.items()
        },
        "answers": side_by_side(items, {name: numbers["answers"] for name, numbers in found.items()}),
        "continuations": shown(begun, {name: numbers["continuations"] for name, numbers in found.items()}),
        "efficiency": efficiency,
        "side_effects": side_effects,
        "benchmark": benchmark,
    }


def _language(
    settings: Evaluate,
    texts: Mapping[str, Sequence[str]],
    items: Sequence[Mapping[str, Any]],
    begun: Sequence[Opening],
    out: Path,
) -> dict[str, dict[str, Any]]:
    """Held-out text, items and openings, model by model; `out/models/NAME.json` has all that was written."""
    if not texts and not items and not begun:
        return {name: dict(NOTHING) for name in settings.models}
    return {
        name: once(out / "models" / f"{name}.json", partial(_measure, path, name, texts, items, begun, settings))
        for name, path in settings.models.items()
    }


def _measure(
    path: Path,
    name: str,
    texts: Mapping[str, Sequence[str]],
    items: Sequence[Mapping[str, Any]],
    begun: Sequence[Opening],
    settings: Evaluate,
) -> dict[str, Any]:
    model, tokenizer = load_model(path, dtype=settings.dtype), load_tokenizer(path)
    prefix = document_prefix(tokenizer)
    symbols, bits = {}, {}
    for language, documents in texts.items():
        ids = encode(tokenizer, documents, model=name, text=language)
        tokens = sum(map(len, ids))
        symbols[language] = symbols_per_token(documents, tokens=tokens)
        with progress(f"{name}: reading {language}", total=tokens, unit="tokens") as advance:
            total = total_bits(model, ids, prefix=prefix, block=settings.block, advance=advance)
        bits[language] = bits_per_byte(documents, bits=total)
    answers = answer_items(model, tokenizer, items) if items else []
    skills = score(items, answers) if items else None
    told = [f"bits per byte, {language} {value:.4f}" for language, value in bits.items()]
    note(f"{name}: " + "; ".join(told + ([f"skills {skills['all']['accuracy']:.3f}"] if skills else [])))
    return {
        "symbols_per_token": symbols,
        "bits_per_byte": bits,
        "skills": skills,
        "answers": [asdict(answer) for answer in answers],
        "continuations": [asdict(answer) for answer in continue_openings(model, tokenizer, begun)],
    }


def _benchmark(settings: Evaluate, out: Path) -> Callable[[], dict[str, Any] | None]:
    """What runs Darumeru, in `out/benchmark/NAME/TASK.jsonl`; how the models can be asked is found out at once."""
    if not settings.benchmark:
        return lambda: None
    from lep.evaluation.darumeru.runner import candidates, run_benchmark

    asked = candidates(settings.benchmark, settings.models)
    reference = settings.reference or asked[0].name
    return partial(
        run_benchmark, settings.benchmark, asked, reference=reference, dtype=settings.dtype, out=out / "benchmark"
    )


def _efficiency(settings: Evaluate, texts: Mapping[str, Sequence[str]], out: Path) -> dict[str, Any] | None:
    """Speed and memory, pair by pair; `out/efficiency/NAME.json` has every turn."""
    if not settings.efficiency:
        return None
    return measure_efficiency(
        settings.efficiency,
        settings.models,
        texts,
        reference=_reference(settings),
        dtype=settings.dtype,
        out=out / "efficiency",
    )


def _speeds(efficiency: Mapping[str, Any] | None, settings: Evaluate) -> dict[str, dict[str, float]]:
    """What tables show of it: how fast each model writes the language."""
    if not efficiency or not settings.efficiency:
        return {}
    return {
        name: {
            "tokens_per_second": numbers["tokens_per_second"]["writing"]["value"],
            "characters_per_second": numbers["texts"][settings.efficiency.language]["writing"]["value"],
        }
        for name, numbers in efficiency["models"].items()
    }


def _side_effects(settings: Evaluate, texts: Mapping[str, Sequence[str]], out: Path) -> dict[str, Any] | None:
    """Other languages and probes; `out/side_effects/NAME.json` has every document and item."""
    if not settings.side_effects:
        return None

    def measure(name: str, path: Path) -> dict[str, Any]:
        model = load_model(path, dtype=settings.dtype)
        return measure_side_effects(model, load_tokenizer(path), texts, name=name)

    found = {
        name: once(out / "side_effects" / f"{name}.json", partial(measure, name, path))
        for name, path in settings.models.items()
    }
    return compare_side_effects(found, texts, reference=_reference(settings))


def _reference(settings: Evaluate) -> str:
    """A model of a folder: an endpoint shows neither its probabilities nor its memory."""
    chosen = settings.reference
    return chosen if chosen in settings.models else next(iter(settings.models))
