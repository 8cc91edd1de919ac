"""A chat in the terminal with one model, or with two side by side. Prints, as `lep.cli.console` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.streaming import Said, speak

_COMMANDS = "/reset forgets what was said, /quit or Ctrl-D ends"


@dataclass
class Partner:
    """A model to talk to, and what was said so far."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    @property
    def chats(self) -> bool:
        """Whether it has a chat template; without one it continues each text by itself."""
        return bool(self.tokenizer.chat_template)

    def prompt(self, text: str) -> list[int]:
        """The ids of the conversation with one more question, or of a text to continue."""
        if not self.chats:
            return self.tokenizer.encode(text)
        first = [{"role": "system", "content": self.system}] if self.system else []
        turns = [*first, *self.turns, {"role": "user", "content": text}]
        try:
            whole = str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of its own
            raise DataError(f"{self.name}: its chat template refuses this conversation: {error}") from None
        return self.tokenizer.encode(whole, add_special_tokens=False)

    def heard(self, text: str, said: Said) -> None:
        """Remember a question and its answer."""
        if self.chats:
            self.turns += [{"role": "user", "content": text}, {"role": "assistant", "content": said.text}]


def partners(folders: Sequence[Path], *, dtype: str, system: str | None) -> list[Partner]:
    """Load the models; they are called by the names of their folders, by their paths where those are the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = list(map(str, folders))
    return [
        Partner(name, load_model(folder, dtype=dtype), load_tokenizer(folder), system)
        for name, folder in zip(names, folders, strict=True)
    ]


def chat(models: Sequence[Partner], console: Console, *, longest: int, greedy: bool) -> None:
    """Ask and answer until the input ends."""
    for partner in models:
        how = "chats" if partner.chats else "has no chat template: it continues each text"
        console.print(Text.assemble((partner.name, "bold"), f" {how}"), soft_wrap=True)
    console.print(_COMMANDS, style="dim")
    for text in _questions(console):
        if text == "/quit":
            return
        if text == "/reset":
            for partner in models:
                partner.turns.clear()
            console.print("forgotten", style="dim")
        elif text.startswith("/"):
            console.print(_COMMANDS, style="dim")
        elif text:
            _answer(models, text, console, longest=longest, greedy=greedy)


def _questions(console: Console) -> Iterator[str]:
    """Lines of the input, without the space around them; those of a pipe are shown, as if they were typed."""
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


def _answer(models: Sequence[Partner], text: str, console: Console, *, longest: int, greedy: bool) -> None:
    show = _side_by_side if len(models) > 1 and console.is_terminal else _one_after_another
    try:
        show(models, text, console, longest=longest, greedy=greedy)
    except DataError as error:
        console.print(f"{error} (/reset)", style="yellow", markup=False, soft_wrap=True)


def _one_after_another(models: Sequence[Partner], text: str, console: Console, *, longest: int, greedy: bool) -> None:
    def tell(piece: str) -> None:
        console.print(piece, end="", markup=False, soft_wrap=True)

    for partner in models:
        if len(models) > 1:
            console.print(partner.name, style="bold", markup=False)
        said = speak(partner.model, partner.tokenizer, partner.prompt(text), longest=longest, greedy=greedy, told=tell)
        partner.heard(text, said)
        console.print(Text("\n" + speed(said), style="dim"), soft_wrap=True)


def _side_by_side(models: Sequence[Partner], text: str, console: Console, *, longest: int, greedy: bool) -> None:
    """Columns that grow; the models speak in turn, so that none slows another down."""
    answers, speeds = [Text() for _ in models], [Text() for _ in models]

    def table() -> Table:
        found = Table(*(escape(partner.name) for partner in models), box=None, expand=True, padding=(0, 2, 0, 0))
        for column in found.columns:
            column.ratio = 1
        found.add_row(*answers)
        found.add_row(*speeds)
        return found

    with Live(table(), console=console, auto_refresh=False) as live:
        for partner, answer, told in zip(models, answers, speeds, strict=True):

            def tell(piece: str, answer: Text = answer) -> None:
                answer.append(piece)
                live.update(table(), refresh=True)

            said = speak(
                partner.model, partner.tokenizer, partner.prompt(text), longest=longest, greedy=greedy, told=tell
            )
            partner.heard(text, said)
            told.append(speed(said), style="dim")
            live.update(table(), refresh=True)


def speed(said: Said) -> str:
    """How much was said, and how fast."""
    rates = (said.tokens / said.seconds, len(said.text) / said.seconds)
    return "{:,} tokens in {:.1f} s: {:,.1f} tokens/s, {:,.1f} characters/s".format(said.tokens, said.seconds, *rates)
