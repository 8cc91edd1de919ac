"""The examples in docstrings run, in a folder with tiny models: no network, no other setup than their own imports."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import lep

SOURCE = Path(lep.__file__).parent
FILES = [
    file.relative_to(SOURCE).as_posix() for file in sorted(SOURCE.rglob("*.py")) if ">>> " in file.read_text("utf8")
]


@pytest.fixture(scope="module")
def models(
    tokenizers: dict[str, Path], make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with `models/{base, instruct, adapted}`; the adapted one is the initialized base."""
    folder = tmp_path_factory.mktemp("doctests") / "models"
    for seed, name in enumerate(("base", "instruct")):
        make_model(folder / name, tokenizers["byte_level"], tied=False, seed=seed)
    lep.initialize_model(folder / "base", tokenizers["russian_byte_level"], folder / "adapted")
    return folder


@pytest.mark.parametrize("file", FILES)
def test_examples_run(
    file: str, models: Path, texts: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("lep." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    (tmp_path / "models").mkdir()
    for model in models.iterdir():
        (tmp_path / "models" / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs={"texts": texts["ru"]})
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert any(example.examples for example in examples)
