"""The command: exit codes, one message for an error, and what each verb says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from lep.cli.main import main
from lep.config import ROOMS
from lep.io.artifact import read_manifest
from lep.tokenization.comparison import compare


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A wide terminal, and no listener left behind."""
    from lep.progress import listen

    monkeypatch.setenv("COLUMNS", "300")
    yield
    listen(None)


@pytest.fixture
def recipe(texts, tokenizers, tmp_path: Path) -> Path:
    """Three rooms without a model: collect, retokenize and, on its result, retokenize's reader."""
    text = tmp_path / "ru.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in sorted(set(texts["ru"]))))
    rooms = {
        "out": str(tmp_path / "run"),
        "collect": {"sources": {"ru": {"files": [str(text)]}}, "heldout_share": 0.1},
        "retokenize": {
            "base": str(tokenizers["byte_level"]),
            "corpus": "collect",
            "mixture": {"ru": 1},
            "new_tokens": 30,
        },
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(rooms, sort_keys=False))
    return tmp_path / "small.yaml"


def one_message(capsys, *parts: str) -> None:
    """Standard error holds one message that begins with `lep:`, without a traceback."""
    error = capsys.readouterr().err
    assert error.count("lep: ") == 1 and error.startswith("lep: ") and "Traceback" not in error
    for part in parts:
        assert part in error


def test_from_and_to_choose_rooms(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe), "--to", "collect"]) == 0
    assert not (tmp_path / "run" / "retokenize").exists()
    assert main(["run", str(recipe), "--from", "retokenize"]) == 0
    assert read_manifest(tmp_path / "run" / "retokenize").numbers["new_tokens"] == 30
    capsys.readouterr()
    assert main(["run", str(recipe), "--from", "evaluate"]) == 2
    one_message(capsys, "evaluate: not a room of this recipe; it has: collect, retokenize")


def test_from_needs_what_lies_before(recipe: Path, capsys) -> None:
    assert main(["run", str(recipe), "--from", "retokenize"]) == 2
    one_message(capsys, "retokenize.corpus", "is not there, and no earlier room makes it")


def test_a_dry_run_says_and_does_nothing(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("(to do)") == 2 and not (tmp_path / "run").exists()
    assert main(["run", str(recipe), "--to", "collect"]) == 0
    capsys.readouterr()
    assert main(["run", str(recipe), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("(done)") == 1 and out.count("(to do)") == 1
    (tmp_path / "ru.jsonl").unlink()
    assert main(["run", str(recipe), "--dry-run"]) == 2


def test_a_room_from_the_recipe_and_from_words_is_the_same_artifact(recipe: Path, tmp_path: Path, tokenizers) -> None:
    assert main(["collect", str(recipe)]) == 0
    assert main(["retokenize", str(recipe), "new_tokens=20"]) == 0
    words = [f"base={tokenizers['byte_level']}", f"corpus={tmp_path / 'run' / 'collect'}", "mixture={ru: 1}"]
    assert main(["retokenize", *words, "new_tokens=20", f"out={tmp_path / 'single'}"]) == 0
    found, single = (read_manifest(tmp_path / name) for name in ("run/retokenize", "single"))
    assert found.fingerprint == single.fingerprint and found.numbers == single.numbers
    assert found.settings["new_tokens"] == 20


def test_an_artifact_with_other_settings_is_not_overwritten_unasked(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe)]) == 0
    before = (tmp_path / "run" / "retokenize" / "tokenizer.json").read_bytes()
    capsys.readouterr()
    assert main(["run", str(recipe), "retokenize.new_tokens=20"]) == 1
    one_message(capsys, "new_tokens: 30 → 20", "--replace")
    assert (tmp_path / "run" / "retokenize" / "tokenizer.json").read_bytes() == before
    assert main(["run", str(recipe), "retokenize.new_tokens=20", "--replace"]) == 0
    assert read_manifest(tmp_path / "run" / "retokenize").numbers["new_tokens"] == 20


def test_usage_errors_exit_with_2(recipe: Path, tmp_path: Path, capsys) -> None:
    wrong = [
        (["run", str(tmp_path / "none.yaml")], "none.yaml: is not there; expected a recipe"),
        (["run", str(recipe), "collect.seed=x", "collect.colour=red"], "collect.seed: Input should be a valid integer"),
        (["run", str(recipe), "collect.seed=x", "collect.colour=red"], "collect.colour: Extra inputs"),
        (["run", str(recipe), "nowhere.x=1"], "nowhere: no such room"),
        (["run", str(recipe), "collect.seed=[1"], "not YAML"),
        (["collect", "seed=3"], "out= is missing"),
        (["collect", "seed=3", "out=x"], "collect.sources: Field required"),
        (["collect", "sources=x", "out=x"], "`lep explain collect` says what each knob takes"),
        (["card", str(tmp_path)], "no model is there; a card is a model's"),
        (["check", str(recipe), "collect.sources.ru.files=[gone.txt]"], "gone.txt is not there"),
        (["run", str(recipe), "collect.sources.ru.files=[gone.txt]"], "gone.txt is not there"),
        (["inspect", str(tmp_path)], "neither an artifact, a model nor a tokenizer folder"),
        (["run", str(recipe), "--from", "retokenize", "--to", "collect"], "comes after"),
    ]
    for words, part in wrong:
        assert main(words) == 2, words
        one_message(capsys, part)
    assert not (tmp_path / "run").exists()


def test_errors_of_the_world_exit_with_1_and_leave_no_artifact(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe), "collect.minimum_characters=5000"]) == 1
    one_message(capsys, "ru: 0 documents to train on", "too short")
    assert main(["run", str(recipe), "collect.sources.ru.files=[" + str(recipe) + "]"]) == 1
    one_message(capsys, "expected .jsonl")
    assert not (tmp_path / "run" / "collect").exists()


def test_an_interruption_says_how_to_go_on(recipe: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from lep.stages import collect

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collect, "_reason", interrupted)
        assert main(["run", str(recipe)]) == 130
    one_message(capsys, "the same command goes on where it was")
    assert not (tmp_path / "run" / "collect").exists()
    assert main(["run", str(recipe), "--dry-run"]) == 0
    assert "(goes on)" in capsys.readouterr().out
    assert main(["run", str(recipe)]) == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["run"],
        ["run", "a.yaml", "--nonsense"],
        ["run", "a.yaml", "--replac"],
        ["explain", "nonsense"],
    ],
)
def test_words_that_are_no_command_exit_with_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2 and "usage: lep" in capsys.readouterr().err


def test_version_and_help(capsys) -> None:
    for words in (["--version"], ["--help"], *([room, "--help"] for room in ROOMS)):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0 and capsys.readouterr().out.strip()


def test_check_says_that_all_is_there(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["check", str(recipe)]) == 0
    assert "2 steps" in capsys.readouterr().out and not (tmp_path / "run").exists()


def test_explain_shows_every_knob_with_its_type(capsys) -> None:
    assert main(["explain"]) == 0
    whole = capsys.readouterr().out
    for room, settings in ROOMS.items():
        assert main(["explain", room]) == 0
        out = capsys.readouterr().out
        assert out.strip() in whole and (settings.__doc__ or "nothing").split(".")[0] in out
        for name, knob in settings.model_fields.items():
            lines = iter(out.splitlines())
            line = next(line for line in lines if line.split()[:1] == [name])
            assert ("required" in line) == knob.is_required()
            assert (knob.description or "").split()[:3] == next(lines).split()[:3]
    assert "dict[str, Source]" in whole and "dict[str, Path]" in whole and "dict[str, float]" in whole
    assert "sources.NAME.files" in whole and "teacher.url" in whole
    assert "FieldInfo" not in whole and "Undefined" not in whole


def test_compare_shows_two_tokenizers_on_texts(recipe: Path, tokenizers, tmp_path: Path, capsys) -> None:
    names = [str(tokenizers[name]) for name in ("byte_level", "russian_byte_level")]
    assert main(["compare", *names, str(tmp_path / "ru.jsonl")]) == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [f"A: {names[0]}", f"B: {names[1]}"]
    table = {line.split("│")[0].strip(): [cell.strip() for cell in line.split("│")[1:]] for line in lines}
    russian = json.loads((tokenizers["russian_byte_level"] / "tokenizer.json").read_text())
    count = len(russian["model"]["vocab"])
    assert table["tokens"] == ["500", f"{count}", f"{count / 500:.2f}"] and table["special tokens"] == ["3", "3", "–"]
    assert int(table["Cyrillic"][0]) < int(table["Cyrillic"][1])
    a, b, ratio = map(float, table["bytes per token"])
    assert ratio > 1 and ratio == pytest.approx(b / a, abs=0.01)
    assert lines[-1].startswith("ru: ") and lines[-1].endswith(", held out")
    assert main(["compare", *names]) == 0
    assert "bytes per token" not in capsys.readouterr().out


def test_compare_as_json_is_the_comparison(recipe: Path, tokenizers, tmp_path: Path, capsys) -> None:
    a, b, texts = tokenizers["byte_level"], tokenizers["metaspace"], tmp_path / "ru.jsonl"
    assert main(["compare", str(a), str(b), str(texts), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == asdict(compare(a, b, texts=texts))


def test_compare_what_is_not_there(tokenizers, tmp_path: Path, capsys) -> None:
    there = str(tokenizers["byte_level"])
    assert main(["compare", there, str(tmp_path / "gone")]) == 1
    one_message(capsys, "gone: neither tokenizer.json nor tokenizer.model is there")
    assert main(["compare", there, there, str(tmp_path / "gone")]) == 1
    one_message(capsys, "gone: no such file or folder")
    with pytest.raises(SystemExit) as stopped:
        main(["compare", there])
    assert stopped.value.code == 2


def test_flags_may_stand_among_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["propagate", "base=a", "--dry-run", "adapted=b", "instruct=c", "--replace", "out=d"]) == 2
    assert "propagate → d (to do)" in capsys.readouterr().out
    for wrong in (["propagate", "base=a", "--no-such-flag"], ["propagate", "base=a", "--dry-run", "base"]):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


def test_rates_are_tried_up_to_a_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What later rooms refer to, which would have to be one of several results, is not looked at."""
    recipe = tmp_path / "r.yaml"
    pretrain = "pretrain: {model: m, corpus: c, mixture: {ru: 1}, tokens: 100_000_000}"
    recipe.write_text(f"{pretrain}\npropagate: {{base: b, adapted: pretrain, instruct: i}}\n")
    main(["run", str(recipe), "pretrain.lr=[1.0e-4, 3.0e-4]", "--to", "pretrain", "--dry-run"])
    told = capsys.readouterr().out
    assert "pretrain/0.0001 → " in told and "pretrain/0.0003 → " in told
    assert main(["run", str(recipe), "pretrain.lr=[1.0e-4, 3.0e-4]", "--dry-run"]) == 2
    assert "name an earlier room" in capsys.readouterr().err
