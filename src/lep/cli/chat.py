"""Chat in the terminal with one model, or with two side by side. Prints to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.data.chat_template import render_chat
from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.streaming import Reply, stream_reply

_COMMANDS = "/reset clears the conversation, /quit or Ctrl-D exits"


@dataclass
class ChatSession:
    """A model and the conversation with it."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    system_prompt: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def has_chat_template(self) -> bool:
        """Whether the model has a chat template; without one it continues each text by itself."""
        return bool(self.tokenizer.chat_template)

    def encode_prompt(self, text: str) -> list[int]:
        """Tokenize the conversation with a new user message; without a chat template, the text alone.

        Args:
            text: The message.

        Returns:
            The token ids.

        Raises:
            DataError: The chat template refuses the conversation.
        """
        if not self.has_chat_template:
            return self.tokenizer.encode(text)
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        messages = [*system, *self.messages, {"role": "user", "content": text}]
        prompt = render_chat(self.tokenizer, messages, add_generation_prompt=True, source=self.name)
        return self.tokenizer.encode(prompt, add_special_tokens=False)

    def append_turn(self, text: str, reply: Reply) -> None:
        """Append a user message and its answer to the conversation."""
        if self.has_chat_template:
            self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": reply.text}]


def load_chat_sessions(folders: Sequence[Path], *, dtype: str, system_prompt: str | None) -> list[ChatSession]:
    """Load models and start a conversation with each.

    Args:
        folders: Model folders. A session is named after its folder; after its path if two folders have one name.
        dtype: Type of the weights.
        system_prompt: The system message of every conversation.

    Returns:
        One session for each folder.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = list(map(str, folders))
    return [
        ChatSession(name, load_model(folder, dtype=dtype), load_tokenizer(folder), system_prompt)
        for name, folder in zip(names, folders, strict=True)
    ]


def chat(sessions: Sequence[ChatSession], console: Console, *, max_new_tokens: int, greedy: bool) -> None:
    """Read questions from standard input and print the answers until the input ends.

    Args:
        sessions: The models; each answers every question.
        console: The terminal.
        max_new_tokens: Maximum tokens of an answer.
        greedy: Always take the most likely token, whatever the model's generation settings say.
    """
    for session in sessions:
        mode = "chats" if session.has_chat_template else "has no chat template: it continues each text"
        console.print(Text.assemble((session.name, "bold"), f" {mode}"), soft_wrap=True)
    console.print(_COMMANDS, style="dim")
    for text in _read_questions(console):
        if text == "/quit":
            return
        if text == "/reset":
            for session in sessions:
                session.messages.clear()
            console.print("conversation cleared", style="dim")
        elif text.startswith("/"):
            console.print(_COMMANDS, style="dim")
        elif text:
            _print_answers(sessions, text, console, max_new_tokens=max_new_tokens, greedy=greedy)


def _read_questions(console: Console) -> Iterator[str]:
    """Yield lines of standard input, stripped; lines from a pipe are printed as if they were typed."""
    while True:
        try:
            if sys.stdin.isatty():
                yield console.input("\n[bold]> [/bold]").strip()
            elif line := sys.stdin.readline():
                console.print(f"\n> {line.strip()}", markup=False, soft_wrap=True)
                yield line.strip()
            else:
                return
        except EOFError:
            console.print()
            return


def _print_answers(
    sessions: Sequence[ChatSession], text: str, console: Console, *, max_new_tokens: int, greedy: bool
) -> None:
    show = _print_answers_side_by_side if len(sessions) > 1 and console.is_terminal else _print_answers_sequentially
    try:
        show(sessions, text, console, max_new_tokens=max_new_tokens, greedy=greedy)
    except DataError as error:
        console.print(f"{error} (/reset)", style="yellow", markup=False, soft_wrap=True)


def _answer(
    session: ChatSession, text: str, *, max_new_tokens: int, greedy: bool, on_text: Callable[[str], None]
) -> Reply:
    """Stream an answer and append the turn to the conversation."""
    reply = stream_reply(
        session.model,
        session.tokenizer,
        session.encode_prompt(text),
        max_new_tokens=max_new_tokens,
        greedy=greedy,
        on_text=on_text,
    )
    session.append_turn(text, reply)
    return reply


def _print_answers_sequentially(
    sessions: Sequence[ChatSession], text: str, console: Console, *, max_new_tokens: int, greedy: bool
) -> None:
    def print_chunk(chunk: str) -> None:
        console.print(chunk, end="", markup=False, soft_wrap=True)

    for session in sessions:
        if len(sessions) > 1:
            console.print(session.name, style="bold", markup=False)
        reply = _answer(session, text, max_new_tokens=max_new_tokens, greedy=greedy, on_text=print_chunk)
        console.print(Text("\n" + format_generation_speed(reply), style="dim"), soft_wrap=True)


def _print_answers_side_by_side(
    sessions: Sequence[ChatSession], text: str, console: Console, *, max_new_tokens: int, greedy: bool
) -> None:
    """Print answers in columns; the models generate one after another, so that none slows another down."""
    answers, speeds = [Text() for _ in sessions], [Text() for _ in sessions]

    def build_table() -> Table:
        table = Table(*(escape(session.name) for session in sessions), box=None, expand=True, padding=(0, 2, 0, 0))
        for column in table.columns:
            column.ratio = 1
        table.add_row(*answers)
        table.add_row(*speeds)
        return table

    with Live(build_table(), console=console, auto_refresh=False) as live:
        for session, answer, speed in zip(sessions, answers, speeds, strict=True):

            def append_chunk(chunk: str, answer: Text = answer) -> None:
                answer.append(chunk)
                live.update(build_table(), refresh=True)

            reply = _answer(session, text, max_new_tokens=max_new_tokens, greedy=greedy, on_text=append_chunk)
            speed.append(format_generation_speed(reply), style="dim")
            live.update(build_table(), refresh=True)


def format_generation_speed(reply: Reply) -> str:
    """Return the length of an answer and the speed of generation in words."""
    rates = (reply.tokens / reply.seconds, len(reply.text) / reply.seconds)
    return "{:,} tokens in {:.1f} s: {:,.1f} tokens/s, {:,.1f} characters/s".format(reply.tokens, reply.seconds, *rates)
