"""The functions of `lep` do what the command does, on folders and on objects of transformers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import lep
from lep.errors import ArtifactError, LepError
from lep.pipeline import build_stage_steps, run_steps

ROOT = Path(__file__).parents[1]
NEW_TOKENS = 30


@pytest.fixture(scope="module")
def folders(
    tokenizers: dict[str, Path], make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """Folders of a base and of an instruct model."""
    root = tmp_path_factory.mktemp("api")
    paths = {
        name: make_model(root / name, tokenizers["byte_level"], tied=False, seed=seed)
        for seed, name in enumerate(("base", "instruct"))
    }
    return SimpleNamespace(**paths)


@pytest.fixture(scope="module")
def extended(folders: SimpleNamespace, texts: dict[str, list[str]]) -> PreTrainedTokenizerFast:
    return lep.extend_tokenizer(folders.base, texts["ru"], new_tokens=NEW_TOKENS)


@pytest.fixture(scope="module")
def adapted(
    folders: SimpleNamespace, extended: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "model"
    lep.initialize_model(folders.base, extended, out)
    return out


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def run_command(stage: str, out: Path, **settings: object) -> Path:
    steps = build_stage_steps(stage, [*(f"{key}={value}" for key, value in settings.items()), f"out={out}"])
    run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)
    return out


def test_a_tokenizer_object_is_extended_as_its_folder_is(folders, extended, texts) -> None:
    assert isinstance(extended, PreTrainedTokenizerFast)
    old = AutoTokenizer.from_pretrained(folders.base)
    assert len(extended) == len(old) + NEW_TOKENS
    of_object = lep.extend_tokenizer(old, iter(texts["ru"]), new_tokens=NEW_TOKENS)
    assert of_object.get_vocab() == extended.get_vocab()
    sentence = texts["ru"][0]
    assert len(extended(sentence)["input_ids"]) < len(old(sentence)["input_ids"])
    assert extended.decode(extended(sentence)["input_ids"]) == sentence
    assert extended.chat_template == old.chat_template and extended.eos_token == old.eos_token


def test_too_few_texts_are_an_error(folders) -> None:
    with pytest.raises(LepError, match="new tokens of the 5000 requested"):
        lep.extend_tokenizer(folders.base, ["A short text."], new_tokens=5000)


def test_initializing_is_what_the_command_does(folders, extended, adapted, tmp_path) -> None:
    extended.save_pretrained(tmp_path / "tokenizer")
    by_command = run_command("initialize", tmp_path / "command", base=folders.base, tokenizer=tmp_path / "tokenizer")
    from_objects = tmp_path / "objects"
    result = lep.initialize_model(load(folders.base), extended, str(from_objects))
    assert isinstance(result, lep.InitializationResult) and result.composed_rows == NEW_TOKENS
    expected = load_file(by_command / "model.safetensors")
    for folder in (adapted, from_objects):
        actual = load_file(folder / "model.safetensors")
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("method", ["swap", "conversion", "auto"])
def test_propagating_is_what_the_command_does(folders, adapted, tmp_path, method) -> None:
    inputs = {"base": folders.base, "adapted": adapted, "instruct": folders.instruct}
    expected = load_file(run_command("propagate", tmp_path / "command", **inputs, method=method) / "model.safetensors")
    result = lep.propagate_model(*inputs.values(), tmp_path / "folders", method=method)
    assert (
        isinstance(result, lep.PropagationResult) and result.method == method and set(result.fits) == {"embed", "head"}
    )
    assert (
        lep.propagate_model(*map(load, inputs.values()), tmp_path / "objects", method=method).fits.keys()
        == result.fits.keys()
    )
    for name in ("folders", "objects"):
        actual = load_file(tmp_path / name / "model.safetensors")
        assert all(torch.equal(actual[key], tensor) for key, tensor in expected.items())
    assert load(tmp_path / "folders")[1].get_vocab() == load(adapted)[1].get_vocab()


def test_an_objects_present_weights_count(folders, adapted, tmp_path) -> None:
    model, tokenizer = load(folders.instruct)
    with torch.no_grad():
        model.model.norm.weight.fill_(2)
    lep.propagate_model(folders.base, adapted, (model, tokenizer), tmp_path / "out", method="swap")
    assert bool((load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"] == 2).all())


def test_what_is_there_is_not_made_again_and_never_overwritten(folders, adapted, tmp_path) -> None:
    models, out = (folders.base, adapted, folders.instruct), tmp_path / "out"
    first = lep.propagate_model(*models, out, method="overlap")
    made = (out / "model.safetensors").stat().st_mtime_ns
    assert lep.propagate_model(*models, out, method="overlap") == first
    assert (out / "model.safetensors").stat().st_mtime_ns == made
    with pytest.raises(ArtifactError, match=r"method: overlap → swap"):
        lep.propagate_model(*models, out, method="swap")


def test_an_unknown_method_and_a_missing_folder_are_errors(folders, tmp_path) -> None:
    models = (folders.base, folders.base, folders.instruct)
    with pytest.raises(ValueError, match="'swap', 'overlap', 'conversion' or 'auto'"):
        lep.propagate_model(*models, tmp_path / "out", method="blend")
    with pytest.raises(LepError, match="nowhere: no such file or folder"):
        lep.propagate_model(*models[:2], tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_texts_are_evaluated_by_folder_and_by_object(folders, texts) -> None:
    documents = {"ru": texts["ru"][:5], "en": texts["en"][:5]}
    result = lep.evaluate_texts(folders.base, documents, dtype="float32")
    assert set(result.bits_per_byte) == set(result.characters_per_token) == {"ru", "en"}
    model, tokenizer = load(folders.base)
    model.train()
    of_objects = lep.evaluate_texts((model, tokenizer), documents)
    assert of_objects.characters_per_token == result.characters_per_token and model.training
    assert of_objects.bits_per_byte == pytest.approx(result.bits_per_byte)
    alone = lep.evaluate_texts((model, tokenizer), texts["ru"][:5])
    assert alone.bits_per_byte == {"texts": pytest.approx(result.bits_per_byte["ru"])}
    with pytest.raises(LepError, match="no texts"):
        lep.evaluate_texts(folders.base, [])


@pytest.mark.parametrize(
    "code",
    [
        "import lep; dir(lep); lep.__version__",
        "import lep; [getattr(lep, name) for name in lep.__all__]",
        "import pkgutil, importlib, lep.core, lep.io; [importlib.import_module(module.name) for package in "
        "(lep.core, lep.io) for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.')]",
        "from lep.registry import STAGES; [STAGES[name].run for name in ('retokenize', 'initialize', 'propagate')]",
        "import lep.evaluation.bits_per_byte",
    ],
)
def test_the_library_imports_no_package_of_the_command_or_the_page(code: str) -> None:
    script = f"""
import importlib.machinery, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("argcomplete", "babel", "jinja2", "markupsafe", "matplotlib", "rich")
        return None if hidden else super().find_spec(name, path, target)
sys.meta_path = [Finder if item is importlib.machinery.PathFinder else item for item in sys.meta_path]
{code}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_page_s_packages_a_model_gets_no_card(folders, extended, without, tmp_path) -> None:
    lep.initialize_model(folders.base, extended, tmp_path / "with")
    without("jinja2")
    lep.initialize_model(folders.base, extended, tmp_path / "without")
    assert (tmp_path / "with" / "README.md").exists() and not (tmp_path / "without" / "README.md").exists()


def test_the_command_names_the_extra_that_it_lacks() -> None:
    script = "import sys; sys.modules['rich.console'] = None; from lep.cli import run; sys.exit(run())"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "lep: the command needs rich, which is not installed: pip install 'lep[cli]'\n"


def test_names_are_listed_and_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert set(lep.__all__) <= set(dir(lep)) and lep.__version__ == version("lep")


def test_the_example_in_the_docs_runs(tmp_path: Path) -> None:
    script = ROOT / "docs" / "library_example.py"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "propagated: " in done.stdout
