"""Models + held-out text and items → numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lep.config import Evaluate
from lep.config.measures import Texts
from lep.core.metrics import bits_per_byte, symbols_per_token
from lep.engine.likelihood import total_bits
from lep.engine.models import document_prefix, load_model, load_tokenizer
from lep.errors import DataError
from lep.evaluation.continuations import Opening, continue_openings, openings, shown
from lep.evaluation.efficiency import measure_efficiency
from lep.evaluation.encoding import encode
from lep.evaluation.generation import answer_items, expected, score, side_by_side
from lep.evaluation.side_effects import compare_side_effects, measure_side_effects
from lep.evaluation.wrong_script import wrong_script
from lep.io.corpus import corpus_languages, heldout_excerpt
from lep.io.documents import read_excerpt
from lep.io.items import read_items
from lep.io.once import once
from lep.progress import note, progress

NOTHING = {"symbols_per_token": {}, "bits_per_byte": {}, "skills": None, "answers": [], "continuations": []}
"""What is found without texts and items."""


def run(settings: Evaluate, out: Path) -> dict[str, Any]:
    """Measure one thing after the other; files in `out` keep each as soon as it is done."""
    run_benchmark = _benchmark(settings, out)
    held, other, kinds = _texts(settings)
    items = read_items(settings.skills, required=("skill",)) if settings.skills else []
    begun = openings(held | other, count=settings.continuations) if settings.continuations else []
    found = _language(settings, held, items, begun, out)
    efficiency = _efficiency(settings, held | kinds | other, out)
    side_effects = _side_effects(settings, other, out)
    benchmark = run_benchmark()
    if side_effects:
        for name in settings.models:
            side_effects["models"][name]["wrong_script"] = _wrong_scripts(found[name], items, begun, out, name)
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


def _texts(settings: Evaluate) -> tuple[dict[str, list[str]], ...]:
    """Documents by language: the held-out ones, those of `side_effects`, and those of `efficiency`."""
    efficiency, side_effects = settings.efficiency, settings.side_effects
    held = _heldout(settings.corpus, characters=settings.characters) if settings.corpus else {}
    other = _read(side_effects.texts, characters=side_effects.characters) if side_effects else {}
    kinds = _read(efficiency.texts, characters=settings.characters) if efficiency else {}
    if twice := (held.keys() & other.keys()) | (held.keys() & kinds.keys()) | (other.keys() & kinds.keys()):
        raise DataError(f"evaluate: more than one text is called {min(twice)!r}; give each a name of its own")
    names = held | other | kinds
    if efficiency and efficiency.language not in names:
        raise DataError(
            f"efficiency.language: no text of language {efficiency.language!r} to measure speed with; there are: "
            f"{', '.join(names) or 'none'}"
        )
    return held, other, kinds


def _heldout(corpus: Path, *, characters: int) -> dict[str, list[str]]:
    return {
        language: heldout_excerpt(corpus, language, characters=characters) for language in corpus_languages(corpus)
    }


def _read(texts: Texts, *, characters: int) -> dict[str, list[str]]:
    found = {}
    for name, files in texts.items():
        skipped: Counter[str] = Counter()
        found[name] = read_excerpt(files, characters=characters, skipped=skipped)
        if skipped:
            note(f"{name}: left out {', '.join(f'{n} documents ({reason})' for reason, n in skipped.items())}")
    return found


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
    told = ", ".join(f"{language} {value:.4f}" for language, value in bits.items())
    note(f"{name}: bits per byte {told}" + (f", skills {skills['all']['accuracy']:.3f}" if skills else ""))
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
    from lep.evaluation.benchmark import candidates, run_benchmark

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


def _wrong_scripts(
    numbers: Mapping[str, Any], items: Sequence[Mapping[str, Any]], begun: Sequence[Opening], out: Path, name: str
) -> dict[str, Any]:
    """Over everything that a model wrote, by where it did."""
    pairs = {
        "skills": zip(map(expected, items), (answer["text"] for answer in numbers["answers"]), strict=True),
        "continuations": zip(
            (opening.prompt for opening in begun), (answer["text"] for answer in numbers["continuations"]), strict=True
        ),
        "benchmark": _written(out / "benchmark" / name),
    }
    return {source: found for source, answers in pairs.items() if (found := wrong_script(answers))}


def _written(folder: Path) -> Iterator[tuple[str, str]]:
    """Right answers of the benchmark, and what was written, in the tasks in which a model writes."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "answer" in record:
                yield str(record["gold"]), record["answer"]


def _reference(settings: Evaluate) -> str:
    """A model of a folder: an endpoint shows neither its probabilities nor its memory."""
    chosen = settings.reference
    return chosen if chosen in settings.models else next(iter(settings.models))
