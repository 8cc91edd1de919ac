"""Each kind of vocabulary from each real tokenizer: checks pass, and transformers 5 and 4 load it with the same ids."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from lep.config import RetokenizeSettings
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer
from lep.results.stages import RetokenizationResult
from lep.stages import retokenize

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "build" / "demo" / "inputs" / "published"
SLICE = 3_000_000
NAMES = ("llama3", "mistral", "qwen", "smollm2")
KINDS = {
    "extended": {"new_tokens": 2000},
    "optimized": {"new_tokens": 2000},
    "bpe": {"vocab_size": 8000},
    "unigram": {"vocab_size": 8000},
}
CASES = [(name, kind) for name in NAMES for kind in KINDS]
SIZES = {"llama3": 128_000, "mistral": 32_000, "qwen": 151_643, "smollm2": 49_152}
PROBE = "Старый профессор прочитал 1234 страницы.\n\tНо  «naïve café» — 3.14 €, 😀! It's the state-of-the-art.\n"
BARE_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The beginning of the demo's Russian."""
    source = ROOT / "build" / "demo" / "inputs" / "ru.jsonl"
    if not source.exists():
        pytest.skip(f"no {source}: `make demo` makes it")
    file = tmp_path_factory.mktemp("corpus") / "ru.jsonl"
    with source.open("rb") as stream:
        file.write_bytes(stream.read(SLICE).rpartition(b"\n")[0] + b"\n")
    return file


@pytest.fixture(scope="module")
def made(real, corpus, tmp_path_factory) -> dict[tuple[str, str], tuple[Path, RetokenizationResult]]:
    """Folder and result of each case."""
    root, cases = tmp_path_factory.mktemp("made"), {}
    for name, kind in CASES:
        out = root / f"{name}-{kind}"
        out.mkdir()
        values = {"base": real.tokenizer(name).path.parent, "corpus": corpus, "kind": kind} | KINDS[kind]
        cases[name, kind] = (out, retokenize.run(RetokenizeSettings.model_validate(values), out))
    return cases


@pytest.fixture(scope="module")
def published(corpus, tmp_path_factory) -> Path:
    """The tokenizer of the demo's model, with all its configuration files, extended."""
    out = tmp_path_factory.mktemp("published") / "extended"
    out.mkdir()
    retokenize.run(RetokenizeSettings(base=PUBLISHED, corpus=corpus, new_tokens=500), out)
    return out


@pytest.fixture(scope="module")
def loaded(made, published, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Ids of each case in the installed transformers and in transformers 4, by major version."""
    venv, text = tmp_path_factory.mktemp("transformers4") / "venv", tmp_path_factory.mktemp("probe") / "text"
    text.write_text(PROBE, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "transformers>=4.55,<5"]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"transformers 4 cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    by_version = {}
    for python in (sys.executable, venv / "bin" / "python"):
        command = [str(python), str(Path(__file__).parent / "probe_ids.py"), str(text)]
        command += [str(folder) for folder in (*(out for out, _ in made.values()), published, PUBLISHED)]
        process = subprocess.run(command, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr[-2000:]
        report = json.loads(process.stdout.splitlines()[-1])
        by_version[report["version"].split(".")[0]] = report["folders"]
    return by_version


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_checks_pass_and_russian_needs_fewer_tokens(made, case) -> None:
    _, result = made[case]
    checks = {check.name: check for check in result.checks}
    assert not any(check.failed for check in checks.values())
    assert checks["round_trips"].total > 1000 and checks["reachable"].total > 1500
    assert ("sentencepiece" in checks) == (case[0] == "mistral")
    sizes = {"extended": SIZES[case[0]] + 2000, "optimized": SIZES[case[0]] // 2 + 2000}
    assert result.old_tokens == SIZES[case[0]] and result.vocab_size == sizes.get(case[1], 8000)
    change = result.characters_per_token["ru"]
    assert change.after > change.before * (1.05 if case[1] in ("extended", "optimized") else 0.9)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_token_can_be_initialized(real, made, case) -> None:
    """No new vocabulary has a byte that its base lacks, as SmolLM2 lacks 21."""
    mapping = map_vocabularies(real.tokenizer(case[0]), read_tokenizer(made[case][0]))
    assert mapping.missing.tolist() == []


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_other_files_are_complete(made, case) -> None:
    """These bases have no tokenizer_config.json: only a SentencePiece file names its special tokens."""
    out, _ = made[case]
    config = json.loads((out / "tokenizer_config.json").read_text())
    names = BARE_NAMES if case[0] == "mistral" else {}
    assert config == {"tokenizer_class": "PreTrainedTokenizerFast"} | names
    assert json.loads((out / "special_tokens_map.json").read_text()) == names
    files = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in out.iterdir()} == files | ({"tokenizer.model"} if case[0] == "mistral" else set())


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_transformers_5_and_4_give_the_ids_of_tokenizers(made, loaded, case) -> None:
    out, result = made[case]
    reference = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = reference.encode(PROBE, add_special_tokens=False).ids
    assert loaded.keys() == {"4", "5"}
    for version, folders in loaded.items():
        loaded_ids = folders[str(out)]
        assert loaded_ids["ids"] == ids, version
        assert loaded_ids["with_special"] == reference.encode(PROBE).ids, version
        assert loaded_ids["decoded"] == PROBE, version
        assert loaded_ids["size"] == result.vocab_size, version
        assert loaded_ids["special"] == (BARE_NAMES if case[0] == "mistral" else {}), version
    assert loaded["4"][str(out)]["class"] == "PreTrainedTokenizerFast"


def test_special_tokens_and_the_chat_template_of_a_published_model_are_kept_in_both(loaded, published) -> None:
    for version, folders in loaded.items():
        new, base = folders[str(published)], folders[str(PUBLISHED)]
        assert new["special"] == base["special"] and set(base["special"]) >= {"bos_token", "eos_token"}, version
        assert new["chat"] == base["chat"] == (PUBLISHED / "chat_template.jinja").read_text().rstrip("\n"), version
        assert new["decoded"] == PROBE and len(new["ids"]) < len(base["ids"]), version
        assert new["size"] == base["size"] + 500, version
