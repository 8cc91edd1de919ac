"""What propagate fits, selects, shares and reports, against NumPy on a T built from the tokenizer's merges."""

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
from lep.config import EmbeddingNamesSettings, PropagateSettings
from lep.core.least_squares import NormalEquations
from lep.errors import CheckpointError
from lep.io.model_folder import read_json
from lep.stages import propagate as stage

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OLD, NEW, DIM, SPECIAL = 500, 560, 32, [0, 1, 2]
HELDOUT = np.arange(9, NEW, 10)


@pytest.fixture(scope="module")
def segmentation(extended: Path) -> np.ndarray:
    """T, `new × old`: every new token split by its merges until only old tokens are left."""
    model = read_json(extended / "tokenizer.json")["model"]
    parents = {"".join(pair): pair for pair in reversed(model["merges"])}

    def segment(text: str) -> list[int]:
        id_ = model["vocab"][text]
        return [id_] if id_ < OLD else [old_id for part in parents[text] for old_id in segment(part)]

    matrix = np.eye(NEW, OLD)
    for text, id_ in model["vocab"].items():
        old_ids = segment(text)
        matrix[id_] = np.bincount(old_ids, minlength=OLD) / len(old_ids)
    return matrix


@pytest.fixture(scope="module")
def counts(extended: Path, corpus: Path) -> np.ndarray:
    """Occurrences of every new token in the corpus."""
    tokenizer, occurrences = Tokenizer.from_file(str(extended / "tokenizer.json")), Counter()
    for file in corpus.glob("*.train.jsonl"):
        for line in file.read_text().splitlines():
            occurrences.update(tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids)
    return np.array([occurrences[id_] for id_ in range(NEW)])


class NumpyFit:
    """The fit of one embedding matrix by NumPy's SVD in float64."""

    def __init__(self, t: np.ndarray, base: Any, instruct: Any, method: str, ridge: float = 0.0, weights: Any = 1):
        root = np.sqrt(np.broadcast_to(weights, NEW))[:, None]
        self.x, self.y = (root * (t @ table[:OLD].double().numpy()) for table in (base, instruct))
        self.ridge = ridge
        self.fitted_rows = {"swap": np.arange(0), "overlap": np.arange(OLD), "conversion": np.arange(NEW)}[method]
        self.p, self.heldout_p = self.fit(self.fitted_rows), self.fit(np.setdiff1d(self.fitted_rows, HELDOUT))

    def fit(self, rows: np.ndarray) -> np.ndarray:
        penalty = np.sqrt(self.ridge) * np.eye(DIM)
        if not len(rows):
            return np.eye(DIM)
        return np.linalg.lstsq(np.vstack([self.x[rows], penalty]), np.vstack([self.y[rows], penalty]), rcond=None)[0]

    def error(self, p: np.ndarray, rows: Any) -> float:
        x, y = self.x[rows], self.y[rows]
        return float(np.linalg.norm(x @ p - y) / np.linalg.norm(x - y))

    def heldout(self, rows: Any = None) -> float:
        return self.error(self.heldout_p, HELDOUT if rows is None else np.intersect1d(HELDOUT, rows))


def embedding_names(kind: str) -> dict[str, str]:
    return {"embed": EMBED} | ({} if kind == "tied" else {"head": HEAD})


def relative_error(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual.double().numpy() - expected) / np.linalg.norm(expected))


def copy_with_embeddings(source: Path, target: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a model with other embeddings."""
    shutil.copytree(source, target)
    for shard in target.glob("*.safetensors"):
        tensors = {k: change(k, v) if k in (EMBED, HEAD) else v for k, v in load_file(shard).items()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, shard, metadata={"format": "pt"})
    return target


FITS = [("overlap", 0.0, False), ("conversion", 0.0, True), ("overlap", 0.5, True), ("conversion", 0.02, False)]


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize(("method", "ridge", "weighted"), FITS)
def test_embeddings_and_diagnostics_are_numpys(
    bases,
    adapteds,
    instructs,
    corpus,
    segmentation,
    counts,
    run_stage,
    tensors,
    tmp_path,
    kind,
    method,
    ridge,
    weighted,
) -> None:
    models = {"base": bases[kind], "adapted": adapteds[kind], "instruct": instructs[kind]}
    weighting: dict[str, Any] = {"weights": "frequency", "corpus": corpus} if weighted else {}
    settings = PropagateSettings(**models, **weighting, method=method, ridge=ridge)
    fits, propagated = run_stage(settings, tmp_path / "out").fits, tensors(tmp_path / "out")
    base, adapted, instruct = (tensors(folder) for folder in models.values())
    for table, name in embedding_names(kind).items():
        reference = NumpyFit(segmentation, base[name], instruct[name], method, ridge, 1 + counts if weighted else 1)
        expected = adapted[name].double().numpy() @ reference.p
        assert relative_error(propagated[name][3:], expected[3:]) < (1e-6 if kind == "tied" else 4e-3)
        assert torch.equal(propagated[name][SPECIAL], instruct[name][SPECIAL])

        fit, ids_by_script = fits[table], by_script(adapteds[kind])
        assert (fit.method, fit.solver, fit.rank) == (method, "normal equations", DIM)
        assert (fit.rows, fit.coverage) == (len(reference.fitted_rows), len(reference.fitted_rows) / NEW)
        assert fit.residual == pytest.approx(reference.error(reference.p, reference.fitted_rows), rel=1e-6)
        assert fit.condition == pytest.approx(np.linalg.cond(reference.x[reference.fitted_rows]), rel=1e-3)
        assert fit.distance_from_identity == pytest.approx(np.linalg.norm(reference.p - np.eye(DIM)) / DIM**0.5)
        assert fit.residual_heldout == pytest.approx(reference.heldout())
        assert fit.residual_heldout_shared == pytest.approx(reference.heldout(np.arange(OLD)))
        assert fit.residual_heldout_composed == pytest.approx(reference.heldout(np.arange(OLD, NEW)))
        scripts = fit.residual_heldout_by_script
        assert scripts.keys() == {script for script, ids in ids_by_script.items() if np.isin(ids, HELDOUT).any()}
        assert scripts == pytest.approx({script: reference.heldout(ids_by_script[script]) for script in scripts})
        norms = np.sort(np.linalg.norm(propagated[name][OLD:].double().numpy(), axis=1))
        shares = (0.05, 0.25, 0.5, 0.75, 0.95)
        quantiles = {f"{share:.0%}": norms[round(share * (NEW - OLD - 1))] for share in shares}
        assert fit.norms_composed == pytest.approx(quantiles, rel=1e-5)


def by_script(folder: Path) -> dict[str, np.ndarray]:
    """Ids by the script of most letters, the first on a tie; tokens that end inside a character are apart."""
    tokenizer, ids_by_script = Tokenizer.from_file(str(folder / "tokenizer.json")), {}
    for id_ in range(NEW):
        text = tokenizer.decode([id_], skip_special_tokens=False)
        letters = ["Cyrillic" if "Ѐ" <= c <= "ӿ" else "Latin" for c in re.findall(r"[^\W\d_]", text)]
        scripts = Counter(letters).most_common(1)
        script = "partial UTF-8" if "\ufffd" in text else scripts[0][0] if scripts else "no letters"
        ids_by_script.setdefault(script, []).append(id_)
    return {script: np.array(ids) for script, ids in ids_by_script.items()}


def test_the_norms_are_those_of_the_rows_in_the_file(bases, adapteds, instructs, run_stage, tensors, tmp_path) -> None:
    long = copy_with_embeddings(instructs["tied"], tmp_path / "long", lambda _, t: torch.cat([t[SPECIAL] * 50, t[3:]]))
    settings = PropagateSettings(base=bases["tied"], adapted=adapteds["tied"], instruct=long)
    fit = run_stage(settings, tmp_path / "out").fits["embed"]
    norms = tensors(tmp_path / "out")[EMBED][:OLD].norm(dim=1).sort().values
    assert fit.norms_shared["95%"] == pytest.approx(float(norms[round(0.95 * (OLD - 1))]))


def make_instruct_embeddings(table: torch.Tensor, winner: str, *, seed: int) -> torch.Tensor:
    """Instruct embeddings that a linear map explains well, or not at all."""
    chance = torch.Generator().manual_seed(seed)
    turn = torch.eye(DIM) + 0.05 * torch.randn(DIM, DIM, generator=chance)
    noise = 0.01 * torch.randn(table.shape, generator=chance)
    return table + noise if winner == "swap" else table @ turn + noise


@pytest.mark.parametrize(("embed", "head"), [("overlap", "swap"), ("conversion", "overlap"), ("swap", "conversion")])
def test_auto_selects_the_least_heldout_error_for_each_matrix(
    make_model, tokenizers, extended, segmentation, run_stage, tensors, tmp_path, embed, head
) -> None:
    base = make_model(tmp_path / "base", tokenizers["byte_level"], tied=False)
    adapted = make_model(tmp_path / "adapted", extended, tied=False, seed=1)
    old, best_methods = tensors(base), {EMBED: embed, HEAD: head}

    def heldout_errors(name: str, instruct: torch.Tensor) -> dict[str, float]:
        methods = ("swap", "overlap", "conversion")
        return {method: NumpyFit(segmentation, old[name], instruct, method).heldout() for method in methods}

    def find_embeddings(name: str) -> torch.Tensor:
        candidates = (make_instruct_embeddings(old[name], best_methods[name], seed=seed) for seed in range(100))
        return next(
            t
            for t in candidates
            if min(errors := heldout_errors(name, t), key=errors.__getitem__) == best_methods[name]
        )

    embeddings = {name: find_embeddings(name) for name in best_methods}
    instruct = copy_with_embeddings(base, tmp_path / "instruct", lambda name, _: embeddings[name])
    models = {"base": base, "adapted": adapted, "instruct": instruct, "layers_scale": 0}
    result = run_stage(PropagateSettings(**models, method="auto"), tmp_path / "auto")
    assert result.method == "auto"
    for table, name in embedding_names("untied").items():
        assert result.fits[table].method == best_methods[name]
        assert result.fits[table].residual_heldout_by_method == pytest.approx(heldout_errors(name, embeddings[name]))
        run_stage(PropagateSettings(**models, method=best_methods[name]), tmp_path / table)
        assert torch.equal(tensors(tmp_path / table)[name], tensors(tmp_path / "auto")[name])


@pytest.mark.parametrize(("base", "adapted", "instruct"), product([True, False], repeat=3))
def test_tied_if_both_the_adapted_and_the_instruct_model_are(
    make_model, tokenizers, extended, segmentation, run_stage, tensors, tmp_path, base, adapted, instruct
) -> None:
    """P maps the base's matrix to the instruct model's matrix of that name; a tied model's head is its embed."""
    tied = {"base": base, "adapted": adapted, "instruct": instruct}
    vocabularies = (tokenizers["byte_level"], extended, tokenizers["byte_level"])
    models = {
        which: make_model(tmp_path / which, vocabularies[i], seed=i, tied=tied[which]) for i, which in enumerate(tied)
    }
    result = run_stage(PropagateSettings(**models, layers_scale=0), tmp_path / "out")
    is_tied = adapted and instruct
    assert result.fits.keys() == ({"embed"} if is_tied else {"embed", "head"})
    assert read_json(tmp_path / "out" / "config.json")["tie_word_embeddings"] is is_tied
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.tie_word_embeddings is is_tied
    weights = {EMBED: model.get_input_embeddings().weight, HEAD: model.get_output_embeddings().weight}
    stored = {which: tensors(folder) for which, folder in models.items()}
    for name, weight in weights.items():
        b, a, i = (stored[which][EMBED if tied[which] or is_tied else name] for which in tied)
        expected = a.double().numpy() @ NumpyFit(segmentation, b, i, "conversion").p
        assert relative_error(weight.detach()[3:], expected[3:]) < 1e-6, name
        assert torch.equal(weight[SPECIAL], i[SPECIAL])


@pytest.mark.parametrize("dtypes", list(product(["float16", "bfloat16", "float32"], repeat=3)), ids=" ".join)
def test_any_mixture_of_dtypes(
    make_model, tokenizers, extended, segmentation, run_stage, tensors, tmp_path, dtypes
) -> None:
    """The fit is in float64, the result rounded to the instruct model's dtype."""
    vocabularies = (tokenizers["byte_level"], extended, tokenizers["byte_level"])
    models = {
        which: make_model(tmp_path / which, vocabularies[i], dtype=dtypes[i], seed=i)
        for i, which in enumerate(("base", "adapted", "instruct"))
    }
    run_stage(PropagateSettings(**models, layers_scale=0), tmp_path / "out")
    base, adapted, instruct = (tensors(folder)[EMBED] for folder in models.values())
    propagated = tensors(tmp_path / "out")[EMBED]
    assert str(propagated.dtype) == f"torch.{dtypes[2]}"
    expected = adapted.double().numpy() @ NumpyFit(segmentation, base, instruct, "conversion").p
    assert relative_error(propagated[3:], expected[3:]) < 8 * torch.finfo(propagated.dtype).eps


def run_sweep(recipe: Path, models: dict[str, Path], **more: Any) -> None:
    recipe.write_text(json.dumps({"out": f"{recipe.with_suffix('')}", "propagate": models | more}, default=str))
    steps = pipeline.load_recipe(recipe)
    pipeline.run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)


@pytest.mark.parametrize("method", ["conversion", "auto"])
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_instruct_models_of_a_sweep_share_t_and_the_gram_matrices_bit_for_bit(
    bases, adapteds, instructs, vary, tmp_path, monkeypatch, kind, method
) -> None:
    work: Counter[str] = Counter()
    add, mapped = NormalEquations.add_rows, stage.map_vocabularies
    counted = lambda self, x, d: (work.update(g=not self.known_grams), add(self, x, d))[1]  # noqa: E731
    monkeypatch.setattr(NormalEquations, "add_rows", counted)
    monkeypatch.setattr(stage, "map_vocabularies", lambda *both: (work.update(t=1), mapped(*both))[1])
    sweep = {"a": instructs[kind]} | {
        name: vary(instructs[kind], tmp_path / "models" / name, seed=i) for i, name in enumerate("bc")
    }
    models = {"base": bases[kind], "adapted": adapteds[kind]}
    run_sweep(tmp_path / "all.json", models, instruct=sweep, method=method)
    work_of_one = {"t": 1, "g": 2 * len(embedding_names(kind)) * (2 if method == "auto" else 1)}
    assert work == work_of_one
    for name, instruct in sweep.items():
        work.clear()
        run_sweep(tmp_path / f"{name}.json", models, instruct=instruct, method=method)
        assert work == work_of_one
        alone, in_sweep = tmp_path / name / "propagate", tmp_path / "all" / "propagate" / name
        for file in alone.iterdir():
            has_timestamps = file.name in ("manifest.json", "README.md")
            assert has_timestamps or file.read_bytes() == (in_sweep / file.name).read_bytes(), file


def test_a_broken_instruct_model_does_not_spoil_the_cache(bases, adapteds, instructs, run_stage, tmp_path) -> None:
    """Its one row with NaN is held out, so that the first of the two fits succeeds."""
    broken = copy_with_embeddings(
        instructs["tied"], tmp_path / "broken", lambda _, t: t.index_fill(0, torch.tensor([9]), torch.nan)
    )
    models, cache = {"base": bases["tied"], "adapted": adapteds["tied"]}, {}
    with pytest.raises(CheckpointError, match="broken: row 9 of embed is not finite"):
        run_stage(PropagateSettings(**models, instruct=broken), tmp_path / "first", cache)
    run_stage(PropagateSettings(**models, instruct=instructs["tied"]), tmp_path / "second", cache)


def test_gram_matrices_are_cached_by_tensor_name(bases, adapteds, instructs, run_stage, tensors, tmp_path) -> None:
    models, cache = {"base": bases["untied"], "adapted": adapteds["untied"], "instruct": instructs["untied"]}, {}
    crossed = PropagateSettings(**models, embedding_names=EmbeddingNamesSettings(embed=HEAD, head=EMBED))
    run_stage(crossed, tmp_path / "alone")
    run_stage(PropagateSettings(**models), tmp_path / "first", cache)
    run_stage(crossed, tmp_path / "second", cache)
    assert torch.equal(tensors(tmp_path / "second")[EMBED], tensors(tmp_path / "alone")[EMBED])


def test_the_cache_keeps_only_the_last_base(bases, adapteds, instructs, run_stage, tmp_path) -> None:
    cache: dict[object, Any] = {}
    for kind in ("tied", "untied"):
        models = {"base": bases[kind], "adapted": adapteds[kind], "instruct": instructs[kind]}
        run_stage(PropagateSettings(**models), tmp_path / kind, cache)
        assert len(cache) == 1
