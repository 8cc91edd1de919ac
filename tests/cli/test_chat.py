"""The chat, driven through a pipe."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lep.cli.chat import Partner, _side_by_side, partners
from lep.cli.main import main

RATE = re.compile(r"^(\d+) tokens in \d+\.\d s: [\d,.]+ tokens/s, [\d,.]+ characters/s$", re.MULTILINE)


@pytest.fixture(scope="module")
def folders(tokenizers, make_model, tmp_path_factory) -> dict[str, Path]:
    """`chat` has a template, `base` has none."""
    root = tmp_path_factory.mktemp("chatting")
    found = {name: make_model(root / name, tokenizers["byte_level"], seed=len(name)) for name in ("chat", "base")}
    (found["base"] / "chat_template.jinja").unlink()
    return found


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """`say(lines, *words)`: what `lep chat` prints when it reads these lines."""

    def run(lines: str, *words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code = main(["chat", *map(str, words), "--dtype", "float32", "--greedy", "--tokens", "5"])
        return code, capsys.readouterr().out

    return run


def test_a_question_is_answered_with_its_speed(folders, say) -> None:
    code, told = say("Hello\n", folders["chat"])
    assert code == 0 and "chat chats" in told and "> Hello\n" in told
    (tokens,) = RATE.findall(told)
    assert 1 <= int(tokens) <= 5


def test_two_models_answer_the_same_question(folders, say) -> None:
    code, told = say("Hello\nAgain\n/quit\nnever\n", folders["chat"], folders["base"])
    assert code == 0 and len(RATE.findall(told)) == 4 and "never" not in told
    assert "base has no chat template: it continues each text" in told
    assert told.index("\nchat\n") < told.index("\nbase\n")


def test_commands_are_no_questions(folders, say) -> None:
    _, told = say("/help\n\n/reset\n", folders["chat"])
    assert "forgotten" in told and not RATE.findall(told) and told.count("/quit or Ctrl-D ends") == 2


def test_a_full_model_says_how_to_begin_anew(folders, say) -> None:
    code, told = say("word " * 600 + "\nHello\n/quit\n", folders["chat"])
    assert code == 0 and "positions: begin anew (/reset)" in told and len(RATE.findall(told)) == 1


def test_a_conversation_grows_and_is_forgotten(folders) -> None:
    (partner,) = partners([folders["chat"]], dtype="float32", system="Be brief.")
    first = partner.tokenizer.decode(partner.prompt("a"))
    assert first == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n")
    _side_by_side([partner], "a", Console(file=io.StringIO()), longest=3, greedy=True)
    assert partner.turns[0] == {"role": "user", "content": "a"} and partner.turns[1]["role"] == "assistant"
    second = partner.tokenizer.decode(partner.prompt("b"))
    assert second.startswith(first) and second.endswith("<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n")


def test_a_base_continues_the_text_alone(folders) -> None:
    (partner,) = partners([folders["base"]], dtype="float32", system="Be brief.")
    assert not partner.chats and partner.prompt("The old") == partner.tokenizer.encode("The old")


def test_side_by_side_each_has_its_column(folders) -> None:
    found: list[Partner] = partners([folders["chat"], folders["base"]], dtype="float32", system=None)
    out = io.StringIO()
    _side_by_side(found, "Hello", Console(file=out, width=120, force_terminal=True), longest=4, greedy=True)
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", out.getvalue())
    assert re.search(r"chat +base", last) and re.search(r"characters/s +\d+ tokens in", last)


def test_folders_of_one_name_are_told_apart(folders, tmp_path: Path) -> None:
    again = Path(shutil.copytree(folders["chat"], tmp_path / "chat"))
    names = [partner.name for partner in partners([folders["chat"], again], dtype="float32", system=None)]
    assert names == [str(folders["chat"]), str(again)]


def test_no_tokens_are_no_answer(folders, capsys) -> None:
    assert main(["chat", str(folders["chat"]), "--tokens", "0"]) == 2
    assert "--tokens 0: expected at least 1" in capsys.readouterr().err
