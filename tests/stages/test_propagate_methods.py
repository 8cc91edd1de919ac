"""What propagate fits, chooses, shares and reports: against NumPy, on a T that is read off the tokenizer's merges."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from lep import pipeline
from lep.config import Propagate, Tables
from lep.core.least_squares import NormalEquations
from lep.errors import CheckpointError
from lep.io.model_folder import read_json
from lep.stages import propagate as stage

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OLD, NEW, DIM, SPECIAL = 500, 560, 32, [0, 1, 2]
HELDOUT = np.arange(9, NEW, 10)


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """No test knows what another one computed."""
    stage._last.clear()


@pytest.fixture(scope="module")
def spelling(extended: Path) -> np.ndarray:
    """T, `new × old`: every new token taken apart by its merge until only old tokens are left."""
    model = read_json(extended / "tokenizer.json")["model"]
    apart = {"".join(pair): pair for pair in reversed(model["merges"])}

    def pieces(text: str) -> list[int]:
        id_ = model["vocab"][text]
        return [id_] if id_ < OLD else [piece for part in apart[text] for piece in pieces(part)]

    matrix = np.eye(NEW, OLD)
    for text, id_ in model["vocab"].items():
        found = pieces(text)
        matrix[id_] = np.bincount(found, minlength=OLD) / len(found)
    return matrix


@pytest.fixture(scope="module")
def counts(extended: Path, corpus: Path) -> np.ndarray:
    """Occurrences of every new token in the corpus."""
    tokenizer, found = Tokenizer.from_file(str(extended / "tokenizer.json")), Counter()
    for file in corpus.glob("*.train.jsonl"):
        for line in file.read_text().splitlines():
            found.update(tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids)
    return np.array([found[id_] for id_ in range(NEW)])


class Numpy:
    """One table's fit, by NumPy's SVD in float64."""

    def __init__(self, t: np.ndarray, base: Any, instruct: Any, method: str, ridge: float = 0.0, weights: Any = 1):
        root = np.sqrt(np.broadcast_to(weights, NEW))[:, None]
        self.x, self.y = (root * (t @ table[:OLD].double().numpy()) for table in (base, instruct))
        self.ridge = ridge
        self.seen = {"swap": np.arange(0), "overlap": np.arange(OLD), "conversion": np.arange(NEW)}[method]
        self.p, self.judged = self.fit(self.seen), self.fit(np.setdiff1d(self.seen, HELDOUT))

    def fit(self, rows: np.ndarray) -> np.ndarray:
        one, side = np.eye(DIM), np.sqrt(self.ridge) * np.eye(DIM)
        if not len(rows):
            return one
        return np.linalg.lstsq(np.vstack([self.x[rows], side]), np.vstack([self.y[rows], side]), rcond=None)[0]

    def error(self, p: np.ndarray, rows: Any) -> float:
        x, y = self.x[rows], self.y[rows]
        return float(np.linalg.norm(x @ p - y) / np.linalg.norm(x - y))

    def heldout(self, rows: Any = None) -> float:
        return self.error(self.judged, HELDOUT if rows is None else np.intersect1d(HELDOUT, rows))


def names(kind: str) -> dict[str, str]:
    return {"embed": EMBED} | ({} if kind == "tied" else {"head": HEAD})


def off(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))


def changed(source: Path, target: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a model whose tables are others."""
    shutil.copytree(source, target)
    for shard in target.glob("*.safetensors"):
        tensors = {k: change(k, v) if k in (EMBED, HEAD) else v for k, v in load_file(shard).items()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, shard, metadata={"format": "pt"})
    return target


KNOBS = [("overlap", 0.0, False), ("conversion", 0.0, True), ("overlap", 0.5, True), ("conversion", 0.02, False)]


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize(("method", "ridge", "weighed"), KNOBS)
def test_tables_and_numbers_are_numpys(
    bases, adapteds, instructs, corpus, spelling, counts, run_room, tensors, tmp_path, kind, method, ridge, weighed
) -> None:
    models = {"base": bases[kind], "adapted": adapteds[kind], "instruct": instructs[kind]}
    how: dict[str, Any] = {"weights": "frequency", "corpus": corpus} if weighed else {}
    numbers = run_room(Propagate(**models, **how, method=method, ridge=ridge), tmp_path / "out")["tables"]
    made = tensors(tmp_path / "out")
    base, adapted, instruct = (tensors(folder) for folder in models.values())
    for table, name in names(kind).items():
        oracle = Numpy(spelling, base[name], instruct[name], method, ridge, 1 + counts if weighed else 1)
        wanted = adapted[name].double().numpy() @ oracle.p
        assert off(made[name][3:], wanted[3:]) < (1e-6 if kind == "tied" else 4e-3)
        assert torch.equal(made[name][SPECIAL], instruct[name][SPECIAL])

        found, texts = numbers[table], by_script(adapteds[kind])
        assert (found["method"], found["solver"], found["rank"]) == (method, "normal equations", DIM)
        assert (found["rows"], found["coverage"]) == (len(oracle.seen), len(oracle.seen) / NEW)
        assert found["residual"] == pytest.approx(oracle.error(oracle.p, oracle.seen), rel=1e-6)
        assert found["condition"] == pytest.approx(np.linalg.cond(oracle.x[oracle.seen]), rel=1e-3)
        assert found["distance_from_identity"] == pytest.approx(np.linalg.norm(oracle.p - np.eye(DIM)) / DIM**0.5)
        assert found["residual_heldout"] == pytest.approx(oracle.heldout())
        assert found["residual_heldout_shared"] == pytest.approx(oracle.heldout(np.arange(OLD)))
        assert found["residual_heldout_composed"] == pytest.approx(oracle.heldout(np.arange(OLD, NEW)))
        scripts = found["residual_heldout_by_script"]
        assert scripts.keys() == {script for script, ids in texts.items() if np.isin(ids, HELDOUT).any()}
        assert scripts == pytest.approx({script: oracle.heldout(texts[script]) for script in scripts})
        norms = np.sort(np.linalg.norm(made[name][OLD:].double().numpy(), axis=1))
        shares = (0.05, 0.25, 0.5, 0.75, 0.95)
        expected = {f"{share:.0%}": norms[round(share * (NEW - OLD - 1))] for share in shares}
        assert found["norms_composed"] == pytest.approx(expected, rel=1e-5)


def by_script(folder: Path) -> dict[str, np.ndarray]:
    """Ids by the alphabet of most letters, the first on a tie; tokens that are no whole characters apart."""
    tokenizer, found = Tokenizer.from_file(str(folder / "tokenizer.json")), {}
    for id_ in range(NEW):
        text = tokenizer.decode([id_], skip_special_tokens=False)
        letters = ["Cyrillic" if "Ѐ" <= c <= "ӿ" else "Latin" for c in re.findall(r"[^\W\d_]", text)]
        most = Counter(letters).most_common(1)
        script = "partial UTF-8" if "\ufffd" in text else most[0][0] if most else "no letters"
        found.setdefault(script, []).append(id_)
    return {script: np.array(ids) for script, ids in found.items()}


def test_the_norms_are_those_of_the_rows_in_the_file(bases, adapteds, instructs, run_room, tensors, tmp_path) -> None:
    long = changed(instructs["tied"], tmp_path / "long", lambda _, t: torch.cat([t[SPECIAL] * 50, t[3:]]))
    numbers = run_room(Propagate(base=bases["tied"], adapted=adapteds["tied"], instruct=long), tmp_path / "out")
    norms = tensors(tmp_path / "out")[EMBED][:OLD].norm(dim=1).sort().values
    assert numbers["tables"]["embed"]["norms_shared"]["95%"] == pytest.approx(float(norms[round(0.95 * (OLD - 1))]))


def leaning(table: torch.Tensor, winner: str, *, seed: int) -> torch.Tensor:
    """An instruct table that a linear map explains well enough, or not at all."""
    chance = torch.Generator().manual_seed(seed)
    turn = torch.eye(DIM) + 0.05 * torch.randn(DIM, DIM, generator=chance)
    noise = 0.01 * torch.randn(table.shape, generator=chance)
    return table + noise if winner == "swap" else table @ turn + noise


@pytest.mark.parametrize(("embed", "head"), [("overlap", "swap"), ("conversion", "overlap"), ("swap", "conversion")])
def test_auto_takes_for_each_table_the_least_held_out_error(
    make_model, tokenizers, extended, spelling, run_room, tensors, tmp_path, embed, head
) -> None:
    base = make_model(tmp_path / "base", tokenizers["byte_level"], tied=False)
    adapted = make_model(tmp_path / "adapted", extended, tied=False, seed=1)
    old, wanted = tensors(base), {EMBED: embed, HEAD: head}

    def tried(name: str, instruct: torch.Tensor) -> dict[str, float]:
        methods = ("swap", "overlap", "conversion")
        return {method: Numpy(spelling, old[name], instruct, method).heldout() for method in methods}

    def chosen(name: str) -> torch.Tensor:
        found = (leaning(old[name], wanted[name], seed=seed) for seed in range(100))
        return next(t for t in found if min(errors := tried(name, t), key=errors.__getitem__) == wanted[name])

    tables = {name: chosen(name) for name in wanted}
    instruct = changed(base, tmp_path / "instruct", lambda name, _: tables[name])
    models = {"base": base, "adapted": adapted, "instruct": instruct, "layers_scale": 0}
    numbers = run_room(Propagate(**models, method="auto"), tmp_path / "auto")
    assert numbers["method"] == "auto"
    for table, name in names("untied").items():
        assert numbers["tables"][table]["method"] == wanted[name]
        assert numbers["tables"][table]["tried"] == pytest.approx(tried(name, tables[name]))
        run_room(Propagate(**models, method=wanted[name]), tmp_path / table)
        assert torch.equal(tensors(tmp_path / table)[name], tensors(tmp_path / "auto")[name])


@pytest.mark.parametrize(("base", "adapted", "instruct"), product([True, False], repeat=3))
def test_tied_if_both_the_adapted_and_the_instruct_model_are(
    make_model, tokenizers, extended, spelling, run_room, tensors, tmp_path, base, adapted, instruct
) -> None:
    """P goes from the base's table to the instruct model's of that name; a tied model's head is its embed."""
    tied = {"base": base, "adapted": adapted, "instruct": instruct}
    vocabularies = (tokenizers["byte_level"], extended, tokenizers["byte_level"])
    models = {
        which: make_model(tmp_path / which, vocabularies[i], seed=i, tied=tied[which]) for i, which in enumerate(tied)
    }
    numbers = run_room(Propagate(**models, layers_scale=0), tmp_path / "out")
    one = adapted and instruct
    assert numbers["tables"].keys() == ({"embed"} if one else {"embed", "head"})
    assert read_json(tmp_path / "out" / "config.json")["tie_word_embeddings"] is one
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.tie_word_embeddings is one
    places = {EMBED: model.get_input_embeddings().weight, HEAD: model.get_output_embeddings().weight}
    read = {which: tensors(folder) for which, folder in models.items()}
    for name, weight in places.items():
        b, a, i = (read[which][EMBED if tied[which] or one else name] for which in tied)
        wanted = a.double().numpy() @ Numpy(spelling, b, i, "conversion").p
        assert off(weight.detach()[3:], wanted[3:]) < 1e-6, name
        assert torch.equal(weight[SPECIAL], i[SPECIAL])


@pytest.mark.parametrize("dtypes", list(product(["float16", "bfloat16", "float32"], repeat=3)), ids=" ".join)
def test_any_mixture_of_dtypes(make_model, tokenizers, extended, spelling, run_room, tensors, tmp_path, dtypes) -> None:
    """The fit is in float64, the result rounded to the instruct model's dtype."""
    vocabularies = (tokenizers["byte_level"], extended, tokenizers["byte_level"])
    models = {
        which: make_model(tmp_path / which, vocabularies[i], dtype=dtypes[i], seed=i)
        for i, which in enumerate(("base", "adapted", "instruct"))
    }
    run_room(Propagate(**models, layers_scale=0), tmp_path / "out")
    base, adapted, instruct = (tensors(folder)[EMBED] for folder in models.values())
    found = tensors(tmp_path / "out")[EMBED]
    assert str(found.dtype) == f"torch.{dtypes[2]}"
    wanted = adapted.double().numpy() @ Numpy(spelling, base, instruct, "conversion").p
    assert off(found[3:], wanted[3:]) < 8 * torch.finfo(found.dtype).eps


def sweep(recipe: Path, models: dict[str, Path], **more: Any) -> None:
    recipe.write_text(json.dumps({"out": f"{recipe.with_suffix('')}", "propagate": models | more}, default=str))
    steps = pipeline.load_recipe(recipe)
    pipeline.run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)


@pytest.mark.parametrize("method", ["conversion", "auto"])
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_many_instruct_models_cost_one_t_and_one_g_and_lose_no_bit(
    bases, adapteds, instructs, vary, tmp_path, monkeypatch, kind, method
) -> None:
    work: Counter[str] = Counter()
    add, mapped = NormalEquations.add, stage.map_vocabularies
    counted = lambda self, x, d: (work.update(g=not self.replays), add(self, x, d))[1]  # noqa: E731
    monkeypatch.setattr(NormalEquations, "add", counted)
    monkeypatch.setattr(stage, "map_vocabularies", lambda *both: (work.update(t=1), mapped(*both))[1])
    several = {"a": instructs[kind]} | {
        name: vary(instructs[kind], tmp_path / "models" / name, seed=i) for i, name in enumerate("bc")
    }
    models = {"base": bases[kind], "adapted": adapteds[kind]}
    sweep(tmp_path / "all.json", models, instruct=several, method=method)
    once = {"t": 1, "g": 2 * len(names(kind)) * (2 if method == "auto" else 1)}
    assert work == once
    for name, instruct in several.items():
        stage._last.clear()
        work.clear()
        sweep(tmp_path / f"{name}.json", models, instruct=instruct, method=method)
        assert work == once
        alone, among = tmp_path / name / "propagate", tmp_path / "all" / "propagate" / name
        for file in alone.iterdir():
            tells_the_time = file.name in ("manifest.json", "README.md")
            assert tells_the_time or file.read_bytes() == (among / file.name).read_bytes(), file


def test_a_broken_instruct_model_spoils_nothing_for_the_next(bases, adapteds, instructs, run_room, tmp_path) -> None:
    """Its one row that is no number is held out, so that the first of the two fits succeeds."""
    broken = changed(instructs["tied"], tmp_path / "broken", lambda _, t: t.index_fill(0, torch.tensor([9]), torch.nan))
    models = {"base": bases["tied"], "adapted": adapteds["tied"]}
    with pytest.raises(CheckpointError, match="broken: row 9 of embed is not finite"):
        run_room(Propagate(**models, instruct=broken), tmp_path / "first")
    run_room(Propagate(**models, instruct=instructs["tied"]), tmp_path / "second")


def test_g_is_not_that_of_other_tables(bases, adapteds, instructs, run_room, tensors, tmp_path) -> None:
    models = {"base": bases["untied"], "adapted": adapteds["untied"], "instruct": instructs["untied"]}
    crossed = Propagate(**models, tables=Tables(embed=HEAD, head=EMBED))
    run_room(crossed, tmp_path / "alone")
    stage._last.clear()
    run_room(Propagate(**models), tmp_path / "first")
    run_room(crossed, tmp_path / "second")
    assert torch.equal(tensors(tmp_path / "second")[EMBED], tensors(tmp_path / "alone")[EMBED])
