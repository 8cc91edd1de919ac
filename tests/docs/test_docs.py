"""The documentation is true: commands parse, examples run, and what it names exists."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

import lep
from lep import pipeline
from lep.cli import main as cli
from lep.pipeline import load_recipe
from lep.registry import STAGES

from .documents import DOCUMENTS, HISTORY, ROOT, blocks, command_lines, prose, spans, text

GENERATED = ("build/", "runs/")  # by the commands, not in the repository
FOLDERS = tuple(f"{folder}/" for folder in ("src", "tests", "docs", "demo", "recipes", "benchmarks"))


def list_pairs(items_by_document: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(document, item) for document, items in items_by_document.items() for item in dict.fromkeys(items)]


LEP = list_pairs({document: command_lines(document, "lep") for document in DOCUMENTS})
MAKE = list_pairs({document: command_lines(document, "make") for document in DOCUMENTS})
SPANS = list_pairs({document: spans(document) for document in DOCUMENTS})
PATHS = [
    (document, span)
    for document, span in SPANS
    if not span.startswith(GENERATED)
    and (span.startswith(FOLDERS) or re.fullmatch(r"[\w.-]+\.(md|toml|py)|Makefile|LICENSE|constraints\.txt", span))
]
NAMES = [(document, span) for document, span in SPANS if re.fullmatch(r"lep(\.\w+)+", span)]
SETTINGS = [
    (document, span)
    for document, span in SPANS
    if re.fullmatch(rf"({'|'.join(STAGES)})\.\w+", span) and not span.endswith((".md", ".py"))
]
LINKS = list_pairs({document: re.findall(r"\]\(([^)]+)\)", prose(document)) for document in (*DOCUMENTS, *HISTORY)})


@pytest.mark.parametrize(("document", "line"), LEP)
def test_lep_commands_parse(document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for block in blocks(document, "yaml"):
        (tmp_path / (block.title or "unnamed")).write_text(block.body)
    monkeypatch.chdir(tmp_path)
    try:
        options = cli._build_parser().parse_args(shlex.split(line, comments=True)[1:])
    except SystemExit as stopped:
        assert stopped.code == 0, f"{document}: {line}"  # --help and --version stop as well
        return
    words = getattr(options, "overrides", None)
    if getattr(options, "download_data", None):  # needs no settings
        return
    if hasattr(options, "stage") and words and words[0].endswith(".yaml"):
        pipeline.load_recipe(Path(words[0]), [f"{options.stage}.{word}" for word in words[1:]])
    elif hasattr(options, "stage") and words:
        pipeline.build_stage_steps(options.stage, words)
    elif hasattr(options, "recipe"):
        last = getattr(options, "to_", None)
        steps = pipeline.load_recipe(options.recipe, options.overrides, last_stage=last)
        pipeline.select_steps(steps, first_stage=getattr(options, "from_", None), last_stage=last)


@pytest.mark.parametrize(("document", "line"), MAKE)
def test_make_targets_exist(document: str, line: str) -> None:
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{re.escape(target)}:", text("Makefile"), re.MULTILINE), f"{document}: {line}"


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document, "python")])
def test_examples_run(document: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models.parent)
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(document, "python"):
        exec(compile(block.body, document, "exec"), names)


@pytest.fixture(scope="module")
def models(tokenizers, make_model, tmp_path_factory) -> Path:
    """The model folders that examples name."""
    root = tmp_path_factory.mktemp("examples") / "models"
    for seed, (name, tokenizer) in enumerate(
        {"base": "byte_level", "adapted": "russian_byte_level", "instruct": "byte_level"}.items()
    ):
        make_model(root / name, tokenizers[tokenizer], seed=seed)
    return root


@pytest.mark.parametrize(("document", "path"), PATHS)
def test_named_files_exist(document: str, path: str) -> None:
    folders = (ROOT, ROOT / "src/lep", ROOT / "docs")
    assert any((folder / path).exists() for folder in folders), f"{document} names {path}"


@pytest.mark.parametrize(("document", "name"), NAMES)
def test_named_functions_exist(document: str, name: str) -> None:
    assert is_defined(name), f"{document} names {name}"


@pytest.mark.parametrize(("document", "setting"), SETTINGS)
def test_named_settings_exist(document: str, setting: str) -> None:
    stage, key = setting.split(".")
    assert key in STAGES[stage].settings.model_fields, f"{document} names {setting}"


@pytest.mark.parametrize(("document", "link"), LINKS)
def test_links_resolve(document: str, link: str) -> None:
    if "://" in link:
        return
    file, _, heading = link.partition("#")
    target = (ROOT / document).parent / file if file else ROOT / document
    assert target.exists(), f"{document} links to {link}"
    if heading:
        assert heading in headings(target), f"{document} links to {link}"


def test_every_stage_has_its_section() -> None:
    sections = re.findall(r"^## (\w+)$", text("docs/pipeline.md"), re.MULTILINE)
    assert [section for section in sections if section in STAGES] == list(STAGES)


def test_every_section_of_a_stage_has_the_same_parts() -> None:
    for section in re.split(r"^## ", text("docs/pipeline.md"), flags=re.MULTILINE):
        if section.split("\n")[0] in STAGES:
            for word in ("Reads", "Writes", "Result", "Errors."):
                assert f"- **{word}**" in section, f"{section.split(chr(10))[0]}: no {word}"


def test_tree_of_the_readme_is_the_repository() -> None:
    tree = next(block.body for block in blocks("README.md", "") if block.body.startswith("README.md"))
    named, folder = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith("  ") else ""
        assert (ROOT / folder / name).exists(), f"README.md names {folder}{name}"
        named.add(folder + name)
        folder = name if name == "src/lep/" else folder
    package = {
        f"src/lep/{p.name}{'/' if p.is_dir() else ''}"
        for p in (ROOT / "src/lep").glob("[a-z]*")
        if p.suffix != ".typed"
    }
    assert package <= named, f"README.md does not name {sorted(package - named)}"


def headings(document: Path) -> list[str]:
    """Return the anchors of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(str(document)), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def is_defined(name: str) -> bool:
    """Return whether a dotted name is a module or defined in one. Read the files: importing takes long."""
    parts = name.split(".")
    if len(parts) == 2 and parts[1] in lep.__all__:
        return True
    for count in range(len(parts), 0, -1):
        file = ROOT.joinpath("src", *parts[:count])
        if file.with_suffix(".py").is_file():
            return ".".join(parts[count:]) in {"", *definitions(file.with_suffix(".py"))}
        if file.is_dir():
            return count == len(parts)
    return False


@cache
def definitions(file: Path) -> set[str]:
    """Return the names at a module's top level, and its classes' methods and fields."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined = set(names(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            defined |= {f"{node.name}.{name}" for name in names(node)}
    return defined


def names(scope: ast.Module | ast.ClassDef) -> list[str]:
    defined: list[str] = []
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.append(node.target.id)
        elif isinstance(node, ast.Assign):
            defined += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return defined


@pytest.mark.parametrize("recipe", sorted(ROOT.glob("recipes/**/*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_resolves(recipe: Path) -> None:
    steps = load_recipe(recipe)
    assert steps and all(str(step.out).startswith("runs/") for step in steps)
