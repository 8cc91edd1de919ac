"""A chat template written again in the language of Ollama.

Ollama does not run the Jinja template of a GGUF file: it looks whether it is like one that it knows. So the template is
written again where it can be: where a turn is a text before its content and a text after it, by role. That is read off
a few conversations, and proved on others.

Source: Execute in template/template.go of Ollama.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

Turns = Sequence[tuple[str, str]]
Render = Callable[..., str | None]

_TOLD, _ASKED = ("system", "Be brief."), ("user", "How many?")
_SAID, _THEN = ("assistant", "Four of them."), ("user", "And why?")
_PROBES: tuple[Turns, ...] = ((_ASKED,), (_ASKED, _SAID, _THEN), (_THEN, _SAID, _ASKED, _SAID, _THEN))


@dataclass(frozen=True)
class Dialogue:
    """How a model writes conversations."""

    around: Mapping[str, tuple[str, str]]
    """The texts before and after the content of a turn, by role; without `system` where that is no turn of its own."""
    opening: str
    """What stands before a conversation that has no system turn."""
    answer: str
    """What asks for an answer."""

    @property
    def texts(self) -> list[str]:
        """All that is written besides the contents of turns."""
        return [self.opening, self.answer, *(text for pair in self.around.values() for text in pair)]

    def render(self, turns: Turns) -> str:
        """A conversation that asks for an answer."""
        opening = "" if turns[0][0] == "system" else self.opening
        return opening + "".join(content.join(self.around[role]) for role, content in turns) + self.answer

    def template(self) -> str:
        """The same in Go's template language, for Ollama."""
        opening = f'{{{{ if and (eq $i 0) (ne .Role "system") }}}}{self.opening}{{{{ end }}}}' if self.opening else ""
        turns = [
            f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
            for role, (before, after) in self.around.items()
        ]
        return "{{ range $i, $turn := .Messages }}" + opening + "".join(turns) + "{{ end }}" + self.answer


def dialogue(tokenizer: PreTrainedTokenizerBase, *, begins: bool) -> Dialogue | None:
    """How a tokenizer's template writes conversations; none where it is not of this kind.

    Args:
        tokenizer: with a chat template.
        begins: whether `bos` comes before every text anyway, so that the template need not write it.
    """

    def render(*turns: tuple[str, str], asks: bool = True) -> str | None:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
        except Exception:  # a template is a program of its own, and some refuse a system turn
            return None
        return text.removeprefix(str(tokenizer.bos_token)) if begins else text

    found = _read_off(render)
    if found is None or any(mark in text for text in found.texts for mark in ("{{", '"""')):
        return None
    probes = [*_PROBES, *((_TOLD, *probe) for probe in _PROBES if "system" in found.around)]
    return found if all(found.render(probe) == render(*probe) for probe in probes) else None


def _read_off(render: Render) -> Dialogue | None:
    """The one dialogue that five conversations allow."""
    asked, asking = render(_ASKED, asks=False), render(_ASKED)
    ended, whole = render(_ASKED, _SAID, asks=False), render(_ASKED, _SAID, _THEN)
    if asked is None or asking is None or ended is None or whole is None or not whole.startswith(asked):
        return None
    opening, after_question = asked.split(_ASKED[1])
    before_answer, _, rest = whole.removeprefix(asked).partition(_SAID[1])
    after_answer = ended.rpartition(_SAID[1])[2]
    before_question = rest.partition(_THEN[1])[0].removeprefix(after_answer)
    around = {"user": (before_question, after_question), "assistant": (before_answer, after_answer)}
    if (told := render(_TOLD, _ASKED)) and _TOLD[1] in told:
        before, _, rest = told.partition(_TOLD[1])
        between = rest.partition(_ASKED[1])[0]
        if between.endswith(before_question):
            around = {"system": (before, between.removesuffix(before_question)), **around}
    return Dialogue(around, opening=opening.removesuffix(before_question), answer=asking.removeprefix(asked))
