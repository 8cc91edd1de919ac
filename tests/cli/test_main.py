"""The command: exit codes, one message for an error, and what each verb says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from lep.cli.main import main
from lep.io.artifact import read_manifest
from lep.registry import STAGES
from lep.tokenization.comparison import compare_tokenizers


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A wide terminal, and no listener left behind."""
    from lep.progress import set_listener

    monkeypatch.setenv("COLUMNS", "300")
    yield
    set_listener(None)


@pytest.fixture
def recipe(texts, tokenizers, tmp_path: Path) -> Path:
    """Two stages without a model: collect and retokenize."""
    text = tmp_path / "ru.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in sorted(set(texts["ru"]))))
    stages = {
        "out": str(tmp_path / "run"),
        "collect": {"sources": {"ru": {"files": [str(text)]}}, "heldout_fraction": 0.1},
        "retokenize": {
            "base": str(tokenizers["byte_level"]),
            "corpus": "collect",
            "mixture": {"ru": 1},
            "new_tokens": 30,
        },
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    return tmp_path / "small.yaml"


def assert_one_message(capsys, *parts: str) -> None:
    """Standard error holds one message that begins with `lep:`, without a traceback."""
    error = capsys.readouterr().err
    assert error.count("lep: ") == 1 and error.startswith("lep: ") and "Traceback" not in error
    for part in parts:
        assert part in error


def test_from_and_to_select_stages(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe), "--to", "collect"]) == 0
    assert not (tmp_path / "run" / "retokenize").exists()
    assert main(["run", str(recipe), "--from", "retokenize"]) == 0
    assert read_manifest(tmp_path / "run" / "retokenize").result["new_tokens"] == 30
    capsys.readouterr()
    assert main(["run", str(recipe), "--from", "evaluate"]) == 2
    assert_one_message(capsys, "evaluate: not a stage of this recipe; it has: collect, retokenize")


def test_from_needs_what_lies_before(recipe: Path, capsys) -> None:
    assert main(["run", str(recipe), "--from", "retokenize"]) == 2
    assert_one_message(capsys, "retokenize.corpus", "does not exist, and no earlier stage makes it")


def test_a_dry_run_does_nothing(recipe: Path, tmp_path: Path, capsys) -> None:
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


def test_a_stage_from_the_recipe_and_from_arguments_is_the_same_artifact(
    recipe: Path, tmp_path: Path, tokenizers
) -> None:
    assert main(["collect", str(recipe)]) == 0
    assert main(["retokenize", str(recipe), "new_tokens=20"]) == 0
    words = [f"base={tokenizers['byte_level']}", f"corpus={tmp_path / 'run' / 'collect'}", "mixture={ru: 1}"]
    assert main(["retokenize", *words, "new_tokens=20", f"out={tmp_path / 'single'}"]) == 0
    of_recipe, single = (read_manifest(tmp_path / name) for name in ("run/retokenize", "single"))
    assert of_recipe.fingerprint == single.fingerprint and of_recipe.result == single.result
    assert of_recipe.settings["new_tokens"] == 20


def test_an_artifact_with_other_settings_is_not_overwritten_unasked(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe)]) == 0
    before = (tmp_path / "run" / "retokenize" / "tokenizer.json").read_bytes()
    capsys.readouterr()
    assert main(["run", str(recipe), "retokenize.new_tokens=20"]) == 1
    assert_one_message(capsys, "new_tokens: 30 → 20", "--replace")
    assert (tmp_path / "run" / "retokenize" / "tokenizer.json").read_bytes() == before
    assert main(["run", str(recipe), "retokenize.new_tokens=20", "--replace"]) == 0
    assert read_manifest(tmp_path / "run" / "retokenize").result["new_tokens"] == 20


def test_usage_errors_exit_with_2(recipe: Path, tmp_path: Path, capsys) -> None:
    wrong = [
        (["run", str(tmp_path / "none.yaml")], "none.yaml: no such file; expected a recipe"),
        (["run", str(recipe), "collect.seed=x", "collect.colour=red"], "collect.seed: Input should be a valid integer"),
        (["run", str(recipe), "collect.seed=x", "collect.colour=red"], "collect.colour: Extra inputs"),
        (["run", str(recipe), "nowhere.x=1"], "nowhere: no such stage"),
        (["run", str(recipe), "collect.seed=[1"], "not YAML"),
        (["collect", "seed=3"], "out= is missing"),
        (["collect", "seed=3", "out=x"], "collect.sources: Field required"),
        (["collect", "sources=x", "out=x"], "`lep explain collect` describes its settings"),
        (["card", str(tmp_path)], "not a model folder; a card describes a model"),
        (["check", str(recipe), "collect.sources.ru.files=[gone.txt]"], "gone.txt does not exist"),
        (["run", str(recipe), "collect.sources.ru.files=[gone.txt]"], "gone.txt does not exist"),
        (["inspect", str(tmp_path)], "neither an artifact, a model nor a tokenizer folder"),
        (["run", str(recipe), "--from", "retokenize", "--to", "collect"], "comes after"),
    ]
    for words, part in wrong:
        assert main(words) == 2, words
        assert_one_message(capsys, part)
    assert not (tmp_path / "run").exists()


def test_errors_exit_with_1_and_leave_no_artifact(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["run", str(recipe), "collect.min_characters=5000"]) == 1
    assert_one_message(capsys, "ru: 0 training and 0 held-out documents", "too short")
    assert main(["run", str(recipe), "collect.sources.ru.files=[" + str(recipe) + "]"]) == 1
    assert_one_message(capsys, "expected .jsonl")
    assert not (tmp_path / "run" / "collect").exists()


def test_an_interruption_says_how_to_resume(recipe: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from lep.stages import collect

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collect, "clean_text", interrupted)
        assert main(["run", str(recipe)]) == 130
    assert_one_message(capsys, "run the same command again to resume")
    assert not (tmp_path / "run" / "collect").exists()
    assert main(["run", str(recipe), "--dry-run"]) == 0
    assert "(to resume)" in capsys.readouterr().out
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
def test_invalid_commands_exit_with_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2 and "usage: lep" in capsys.readouterr().err


def test_version_and_help(capsys) -> None:
    for words in (["--version"], ["--help"], *([stage, "--help"] for stage in STAGES)):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0 and capsys.readouterr().out.strip()


def test_check_finds_all_inputs(recipe: Path, tmp_path: Path, capsys) -> None:
    assert main(["check", str(recipe)]) == 0
    assert "2 steps" in capsys.readouterr().out and not (tmp_path / "run").exists()


def test_explain_shows_every_setting_with_its_type(capsys) -> None:
    assert main(["explain"]) == 0
    whole = capsys.readouterr().out
    for name, stage in STAGES.items():
        settings = stage.settings
        assert main(["explain", name]) == 0
        out = capsys.readouterr().out
        assert out.strip() in whole and (settings.__doc__ or "nothing").split(".")[0] in out
        for key, field in settings.model_fields.items():
            lines = iter(out.splitlines())
            line = next(line for line in lines if line.split()[:1] == [key])
            assert ("required" in line) == field.is_required()
            assert (field.description or "").split()[:3] == next(lines).split()[:3]
    assert "dict[str, CorpusSource]" in whole and "dict[str, Path]" in whole and "dict[str, float]" in whole
    assert "sources.NAME.files" in whole and "teacher.base_url" in whole
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
    assert json.loads(capsys.readouterr().out) == asdict(compare_tokenizers(a, b, texts=texts))


def test_compare_names_a_missing_folder(tokenizers, tmp_path: Path, capsys) -> None:
    there = str(tokenizers["byte_level"])
    assert main(["compare", there, str(tmp_path / "gone")]) == 1
    assert_one_message(capsys, "gone: neither tokenizer.json nor tokenizer.model is there")
    assert main(["compare", there, there, str(tmp_path / "gone")]) == 1
    assert_one_message(capsys, "gone: no such file or folder")
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


def test_a_sweep_runs_up_to_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """References of later stages, which would have to name one of several results, are not checked."""
    recipe = tmp_path / "r.yaml"
    pretrain = "pretrain: {model: m, corpus: c, mixture: {ru: 1}, tokens: 100_000_000}"
    recipe.write_text(f"{pretrain}\npropagate: {{base: b, adapted: pretrain, instruct: i}}\n")
    main(["run", str(recipe), "pretrain.learning_rate=[1.0e-4, 3.0e-4]", "--to", "pretrain", "--dry-run"])
    out = capsys.readouterr().out
    assert "pretrain/0.0001 → " in out and "pretrain/0.0003 → " in out
    assert main(["run", str(recipe), "pretrain.learning_rate=[1.0e-4, 3.0e-4]", "--dry-run"]) == 2
    assert "name an earlier stage" in capsys.readouterr().err
