"""Results of a made-up run, similar to those of the demo, as manifests hold them."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

NAMES = ("base", "adapted", "instruct", "swap", "overlap", "conversion")
SKILLS = ("copy_ru", "copy_en", "spell_ru", "sort_ru", "count_en")
HOMES = {"base": "inputs/published", "adapted": "run/pretrain", "instruct": "run/tune"}
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>"

Write = Callable[..., Path]
"""Writes the manifest of one stage and returns its folder."""


def collected() -> dict[str, Any]:
    """Result of `collect`."""
    language = {
        "documents_read": 104409,
        "documents_train": 98112,
        "documents_heldout": 2004,
        "characters_train": 312_456_789,
        "characters_heldout": 6_400_000,
        "dropped": {"too short": 2100, "wrong script": 193, "duplicate": 2000},
    }
    return {"languages": {"ru": language, "en": {**language, "characters_train": 61_000_000}}}


def retokenized() -> dict[str, Any]:
    """Result of `retokenize`."""
    text, other = "Москва, столица России, стоит на Москве-реке.", "«Не спеши», — сказал он и закрыл книгу.\n"
    short = "Мос|ква|,| сто|лица| России|,| сто|ит| на| Моск|ве|-|ре|ке|."
    checks = {"reachable": 3000, "old_ids": 49152, "base_ids": 1000, "round_trips": 1000}
    brief = "«|Не| с|пе|ши|»,| —| сказал| он| и| за|кры|л| кни|гу|.|\n"
    return {
        "kind": "extended",
        "old_tokens": 49152,
        "kept_tokens": 49152,
        "new_tokens": 3000,
        "vocab_size": 52152,
        "characters_per_token": {"ru": {"before": 1.31, "after": 2.62}, "en": {"before": 4.2, "after": 4.2}},
        "checks": [{"name": name, "passed": n, "total": n, "required": True} for name, n in checks.items()],
        "examples": [
            {"text": text, "before": [*text], "after": short.split("|")},
            {"text": other, "before": [*other[:20], "\ufffd", "\ufffd", *other[21:]], "after": brief.split("|")},
        ],
    }


def pretrained() -> dict[str, Any]:
    """Result of `pretrain`."""
    curve = [
        {
            "step": 50 * i,
            "tokens": 409_600 * i,
            "score": 1.7,
            "bits_per_byte": {"ru": 1.72 + 0.9 * exp(-i), "en": 1.214 + 0.02 * exp(-i)},
            "benchmark": {
                name: {"score": 0.3 + 0.03 * i, "low": 0.25 + 0.03 * i, "high": 0.35 + 0.03 * i}
                for name in ("all", "DaruMMLU", "DaruMERA")
            },
        }
        for i in range(6)
    ]
    losses = [{"step": i, "loss": 3.9 + 2.2 * exp(-i / 40) + 0.15 * ((i * 37 % 11) / 11 - 0.5)} for i in range(1, 251)]
    rest = {"tokens_per_second": 1563.2, "best_step": 250}
    return {"trained_tokens": 2_048_000, "curve": curve, "losses": losses, **rest}


def tuned() -> dict[str, Any]:
    """Result of `tune`."""
    losses = [{"step": i, "loss": 0.2 + 2.0 * exp(-i / 12)} for i in range(1, 48)]
    return {"examples": 1500, "trained_tokens": 84_211, "losses": losses}


def calibrated() -> dict[str, Any]:
    """Result of `calibrate`."""
    return {
        "answers": 1520,
        "kept_answers": 1412,
        "examples": 1612,
        "trained_tokens": 91_000,
        "losses": tuned()["losses"],
    }


def propagated(method: str) -> dict[str, Any]:
    """Result of `propagate`; swap fits nothing."""
    fields = ("rows", "rank", "condition", "residual", "residual_heldout", "coverage", "distance_from_identity")
    values = (52152, 576, 91.04 if method == "conversion" else 123456.0, 0.402, 0.413, 1.0, 0.305)
    fit = dict.fromkeys(fields) if method == "swap" else dict(zip(fields, values, strict=True))
    return {"method": method, "fits": {"embed": fit}}


def evaluated() -> dict[str, Any]:
    """Result of `evaluate`; one answer is hostile."""
    models = {name: _model(name, index) for index, name in enumerate(NAMES)}
    prompts = [("copy_ru", "Повтори: на дворе трава", "на дворе трава"), ("copy_en", "Repeat: red lorry", "red lorry")]
    answers = [
        {
            "skill": skill,
            "prompt": prompt,
            "expected": expected,
            "answers": {
                name: {"text": HOSTILE if name == "swap" else expected, "tokens": 4 + i}
                for i, name in enumerate(NAMES[2:])
            },
        }
        for skill, prompt, expected in prompts * 4
    ]
    opening = "Весной 1861 года в Петербурге"
    text = " было холодно и сыро, и снег лежал на крышах ещё долго; но уже пахло водой, и на Неве трещал лёд."
    texts = {name: {"text": text[: 30 + 12 * i], "tokens": 64} for i, name in enumerate(NAMES)}
    shown = {"answers": answers, "continuations": [{"prompt": opening, "outputs": texts}]}
    measures = {"benchmark": benchmark(), "efficiency": efficiency(), "side_effects": side_effects()}
    return {"models": models, **shown, **measures}


GROUPS = {
    "DaruMMLU": ("rummlu", "mmlu_ru", "mmlu_en"),
    "DaruMERA": ("multiq", "parus", "rcb", "rwsd", "use", "ruopenbookqa", "ruworldtree", "rucola"),
    "DaruSum": ("abstractive", "extractive"),
    "DaruCopy-EN": ("cp_sent_en", "cp_para_en"),
    "DaruCopy-RU": ("cp_sent_ru", "cp_para_ru"),
}


def benchmark(*, missing: str = "", **settings: Any) -> dict[str, Any]:
    """Benchmark scores; the task `missing` failed with every model."""
    models = {name: _benchmarked(0.4 + 0.03 * index, missing) for index, name in enumerate(NAMES)}
    differences = {name: _changes(0.03 * index, models[name]) for index, name in enumerate(NAMES) if index}
    protocol = {"variant": "paper", "limit": None, "data": None, "seed": 0, **settings}
    return {"settings": protocol, "models": models, "differences": differences}


def _benchmarked(score: float, missing: str) -> dict[str, Any]:
    estimate = {"score": score, "interval": [score - 0.05, score + 0.05]}
    tasks = {
        f"darumeru_{task}": {"group": group, **({"error": "no rows"} if task == missing else estimate | {"items": 120})}
        for group, names in GROUPS.items()
        for task in names
    }
    failed = [name for name, task in tasks.items() if "error" in task]
    groups = {group: estimate | {"missing": [n for n in failed if tasks[n]["group"] == group]} for group in GROUPS}
    rest = {"micro_average": None if failed else estimate, "missing": failed}
    return {"num_fewshot": 0, "chat_template": True, "tasks": tasks, "groups": groups, **rest}


def efficiency() -> dict[str, Any]:
    """Speed and memory: new vocabularies generate Russian twice as fast."""
    sizes = {"batch_size": 8, "prompt_tokens": 256, "generated_tokens": 64}
    protocol = {"language": "ru", **sizes, "rounds": 6, "device": "cpu", "threads": 2}
    models = {name: _efficient(2.62 if _is_new(name) else 1.31) for name in NAMES}
    ratios = {name: _ratios(2.0 if _is_new(name) else 1.0) for name in NAMES[1:]}
    return {"settings": protocol, "models": models, "ratios": ratios}


def _is_new(name: str) -> bool:
    return name not in ("base", "instruct")


def _efficient(characters: float) -> dict[str, Any]:
    def at(speed: float) -> dict[str, Any]:
        return {"value": speed, "interval": [0.95 * speed, 1.05 * speed]}

    def text(characters: float) -> dict[str, Any]:
        counts = {
            "kv_cache_bytes_per_1000_characters": 23_040_000 / characters,
            "context_characters": 8192 * characters,
        }
        speeds = {"prefill": at(800 * characters), "decode": at(190 * characters)}
        return {"characters_per_token": at(characters), "bytes_per_token": at(1.8 * characters), **speeds, **counts}

    return {
        "tokens_per_second": {"prefill": at(800.0), "decode": at(190.0)},
        "memory": {"weight_bytes": 270_000_000, "kv_cache_bytes_per_token": 23_040},
        "context": {"tokens": 8192, "sliding_window": 4096},
        "texts": {"en": text(4.2), "ru": text(characters)},
    }


def _ratios(times: float) -> dict[str, Any]:
    def over(ratio: float) -> dict[str, Any]:
        return {"ratio": ratio, "interval": [ratio - 0.1, ratio + 0.1]}

    def text(times: float) -> dict[str, Any]:
        counts = {"kv_cache_bytes_per_1000_characters": {"ratio": 1 / times}, "context_characters": {"ratio": times}}
        return {"characters_per_token": over(times), "prefill": over(times), "decode": over(times), **counts}

    same = {"prefill": over(1.0), "decode": over(1.0)}
    texts = {"en": text(1.0), "ru": text(times)}
    return {"reference": "base", "tokens_per_second": same, "weight_bytes": {"ratio": 1.04}, "texts": texts}


def side_effects() -> dict[str, Any]:
    """Side effects: later models are worse in German, and not in Azerbaijani."""

    def at(bits: float) -> dict[str, Any]:
        return {"value": bits, "interval": [bits - 0.02, bits + 0.02]}

    models, differences = {}, {}
    for index, name in enumerate(NAMES):
        share = {"score": 0.5 + 0.05 * index, "interval": [0.4, 0.9], "items": 40}
        models[name] = {
            "bits_per_byte": {"de": at(1.5 + 0.01 * index), "az": at(2.5)},
            "probes": {"arithmetic": share, "code": share},
            "wrong_script": {"skills": {"Cyrillic": {"score": 0.01 * index, "interval": [0.0, 0.1], "items": 60}}},
        }
        worse = {"difference": 0.01 * index, "interval": [0.01 * index - 0.025, 0.01 * index + 0.025]}
        same = {"difference": 0.0, "interval": [-0.01, 0.01]}
        better = {"difference": 0.05 * index, "interval": [0.05 * index - 0.1, 0.05 * index + 0.1]}
        bits, probes = {"de": worse, "az": same}, {"arithmetic": better, "code": better}
        differences |= {name: {"reference": "base", "bits_per_byte": bits, "probes": probes}} if index else {}
    return {"texts": {}, "models": models, "differences": differences}


def _changes(difference: float, model: dict[str, Any]) -> dict[str, Any]:
    """An interval of 0.1 on both sides: what is less is noise."""
    change = {"difference": difference, "interval": [difference - 0.1, difference + 0.1]}
    tasks = {name: change for name, task in model["tasks"].items() if "error" not in task}
    groups = dict.fromkeys(model["groups"], change)
    return {"reference": NAMES[0], "tasks": tasks, "groups": groups, "micro_average": model["micro_average"] and change}


def _model(name: str, index: int) -> dict[str, Any]:
    new = _is_new(name)
    right = {"instruct": 200, "swap": 131, "overlap": 188, "conversion": 197}.get(name)
    scores = (
        {"all": _score(right, 280)} | {s: _score(right // 5 - 3 * i + 5, 56) for i, s in enumerate(SKILLS)}
        if right
        else None
    )
    return {
        "characters_per_token": {"ru": 2.62 if new else 1.31, "en": 4.2},
        "bits_per_byte": {"ru": round(1.61 + 0.0213 * index, 4), "en": round(1.2 + 0.0101 * index, 4)},
        "skills": scores,
        "speed": {
            "tokens_per_second": 190.0 - index,
            "characters_per_second": (190.0 - index) * (2.62 if new else 1.31),
        },
    }


def _score(correct: int, items: int) -> dict[str, Any]:
    share, half = correct / items, 0.9 / items**0.5
    return {
        "correct": correct,
        "items": items,
        "accuracy": share,
        "low": max(0.0, share - half),
        "high": min(1.0, share + half),
    }
