"""The chat, with questions from a pipe."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lep.cli.chat import ChatSession, _print_answers_side_by_side, load_chat_sessions
from lep.cli.main import main

RATE = re.compile(r"^(\d+) tokens in \d+\.\d s: [\d,.]+ tokens/s, [\d,.]+ characters/s$", re.MULTILINE)


@pytest.fixture(scope="module")
def folders(tokenizers, make_model, tmp_path_factory) -> dict[str, Path]:
    """`chat` has a template, `base` has none."""
    root = tmp_path_factory.mktemp("chat")
    folders = {name: make_model(root / name, tokenizers["byte_level"], seed=len(name)) for name in ("chat", "base")}
    (folders["base"] / "chat_template.jinja").unlink()
    return folders


@pytest.fixture
def run_chat(monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """`run_chat(lines, *arguments)`: the exit code and the output of `lep chat` with these input lines."""

    def run(lines: str, *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code = main(["chat", *map(str, arguments), "--dtype", "float32", "--greedy", "--tokens", "5"])
        return code, capsys.readouterr().out

    return run


def test_a_question_is_answered_with_its_speed(folders, run_chat) -> None:
    code, output = run_chat("Hello\n", folders["chat"])
    assert code == 0 and "chat chats" in output and "> Hello\n" in output
    (tokens,) = RATE.findall(output)
    assert 1 <= int(tokens) <= 5


def test_two_models_answer_the_same_question(folders, run_chat) -> None:
    code, output = run_chat("Hello\nAgain\n/quit\nnever\n", folders["chat"], folders["base"])
    assert code == 0 and len(RATE.findall(output)) == 4 and "never" not in output
    assert "base has no chat template: it continues each text" in output
    assert output.index("\nchat\n") < output.index("\nbase\n")


def test_commands_are_not_questions(folders, run_chat) -> None:
    _, output = run_chat("/help\n\n/reset\n", folders["chat"])
    assert "conversation cleared" in output and not RATE.findall(output) and output.count("/quit or Ctrl-D exits") == 2


def test_a_full_context_is_an_error_with_a_remedy(folders, run_chat) -> None:
    code, output = run_chat("word " * 600 + "\nHello\n/quit\n", folders["chat"])
    assert code == 0 and "start a new one (/reset)" in output and len(RATE.findall(output)) == 1


def test_a_conversation_grows(folders) -> None:
    (session,) = load_chat_sessions([folders["chat"]], dtype="float32", system_prompt="Be brief.")
    first = session.tokenizer.decode(session.encode_prompt("a"))
    assert first == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n")
    _print_answers_side_by_side([session], "a", Console(file=io.StringIO()), max_new_tokens=3, greedy=True)
    assert session.messages[0] == {"role": "user", "content": "a"} and session.messages[1]["role"] == "assistant"
    second = session.tokenizer.decode(session.encode_prompt("b"))
    assert second.startswith(first) and second.endswith("<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n")


def test_a_base_model_continues_the_text_alone(folders) -> None:
    (session,) = load_chat_sessions([folders["base"]], dtype="float32", system_prompt="Be brief.")
    assert not session.has_chat_template and session.encode_prompt("The old") == session.tokenizer.encode("The old")


def test_models_side_by_side_have_a_column_each(folders) -> None:
    sessions: list[ChatSession] = load_chat_sessions(
        [folders["chat"], folders["base"]], dtype="float32", system_prompt=None
    )
    out = io.StringIO()
    _print_answers_side_by_side(
        sessions, "Hello", Console(file=out, width=120, force_terminal=True), max_new_tokens=4, greedy=True
    )
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", out.getvalue())
    assert re.search(r"chat +base", last) and re.search(r"characters/s +\d+ tokens in", last)


def test_folders_with_one_name_are_called_by_their_paths(folders, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["chat"], tmp_path / "chat"))
    names = [
        session.name for session in load_chat_sessions([folders["chat"], copy], dtype="float32", system_prompt=None)
    ]
    assert names == [str(folders["chat"]), str(copy)]


def test_zero_tokens_are_refused(folders, capsys) -> None:
    assert main(["chat", str(folders["chat"]), "--tokens", "0"]) == 2
    assert "--tokens 0: expected at least 1" in capsys.readouterr().err
