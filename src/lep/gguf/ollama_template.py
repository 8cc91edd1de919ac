"""Translate a chat template from Jinja to the Go template language of Ollama.

Ollama does not run the Jinja template of a GGUF file; it looks for a similar one among those that it knows. The
template is translated where every turn is its content between a prefix and a suffix that depend on the role alone.
Both are inferred from a few rendered conversations, and the translation is verified on others.

Source: Execute in template/template.go of Ollama.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import render_chat
from lep.errors import DataError

Turns = Sequence[tuple[str, str]]
"""Role and content of each message."""
RenderFunction = Callable[[Turns, bool], str | None]
"""Renders turns, with the generation prompt or without it; None: the template refuses them."""

_SYSTEM, _USER = ("system", "Be brief."), ("user", "How many?")
_ASSISTANT, _FOLLOW_UP = ("assistant", "Four of them."), ("user", "And why?")
_PROBE_CONVERSATIONS: tuple[Turns, ...] = (
    (_USER,),
    (_USER, _ASSISTANT, _FOLLOW_UP),
    (_FOLLOW_UP, _ASSISTANT, _USER, _ASSISTANT, _FOLLOW_UP),
)


@dataclass(frozen=True)
class OllamaTemplate:
    """A chat template that depends on roles alone."""

    role_affixes: Mapping[str, tuple[str, str]]
    """Prefix and suffix of a turn's content, by role; without `system` where the template has no such turn."""
    conversation_prefix: str
    """Text before a conversation without a system turn."""
    generation_prompt: str
    """Text after the last turn that starts the answer."""

    @property
    def literal_texts(self) -> list[str]:
        """Every text of the template except the contents of turns."""
        affixes = [text for pair in self.role_affixes.values() for text in pair]
        return [self.conversation_prefix, self.generation_prompt, *affixes]

    def render(self, turns: Turns) -> str:
        """Render a conversation with the generation prompt."""
        prefix = "" if turns[0][0] == "system" else self.conversation_prefix
        contents = "".join(content.join(self.role_affixes[role]) for role, content in turns)
        return prefix + contents + self.generation_prompt

    def to_go_template(self) -> str:
        """Return the template in Go's template language, as a Modelfile contains it."""
        prefix = (
            f'{{{{ if and (eq $i 0) (ne .Role "system") }}}}{self.conversation_prefix}{{{{ end }}}}'
            if self.conversation_prefix
            else ""
        )
        turns = [
            f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
            for role, (before, after) in self.role_affixes.items()
        ]
        return "{{ range $i, $turn := .Messages }}" + prefix + "".join(turns) + "{{ end }}" + self.generation_prompt


def infer_ollama_template(tokenizer: PreTrainedTokenizerBase, *, adds_bos: bool) -> OllamaTemplate | None:
    """Translate a tokenizer's chat template.

    Args:
        tokenizer: A tokenizer with a chat template.
        adds_bos: The runtime puts the BOS token before every text, so that the template must not write it.

    Returns:
        The translation; None where the template depends on more than roles.
    """

    def render(turns: Turns, add_generation_prompt: bool) -> str | None:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text = render_chat(tokenizer, messages, add_generation_prompt=add_generation_prompt, source="probe")
        except DataError:  # some templates refuse a system turn
            return None
        return text.removeprefix(str(tokenizer.bos_token)) if adds_bos else text

    template = _infer_from_probes(render)
    if template is None or any(mark in text for text in template.literal_texts for mark in ("{{", '"""')):
        return None
    probes = list(_PROBE_CONVERSATIONS)
    if "system" in template.role_affixes:
        probes += [(_SYSTEM, *probe) for probe in _PROBE_CONVERSATIONS]
    return template if all(template.render(probe) == render(probe, True) for probe in probes) else None


def _infer_from_probes(render: RenderFunction) -> OllamaTemplate | None:
    """Infer prefixes and suffixes from five rendered conversations; the result is still to be verified."""
    question, prompt = render([_USER], False), render([_USER], True)
    answered, conversation = render([_USER, _ASSISTANT], False), render([_USER, _ASSISTANT, _FOLLOW_UP], True)
    if question is None or prompt is None or answered is None or conversation is None:
        return None
    if not conversation.startswith(question):
        return None
    before_first_question, after_question = question.split(_USER[1])
    before_answer, _, rest = conversation.removeprefix(question).partition(_ASSISTANT[1])
    after_answer = answered.rpartition(_ASSISTANT[1])[2]
    before_question = rest.partition(_FOLLOW_UP[1])[0].removeprefix(after_answer)
    affixes = {"user": (before_question, after_question), "assistant": (before_answer, after_answer)}
    if (with_system := render([_SYSTEM, _USER], True)) and _SYSTEM[1] in with_system:
        before_system, _, rest = with_system.partition(_SYSTEM[1])
        between = rest.partition(_USER[1])[0]
        if between.endswith(before_question):
            affixes = {"system": (before_system, between.removesuffix(before_question)), **affixes}
    return OllamaTemplate(
        affixes,
        conversation_prefix=before_first_question.removesuffix(before_question),
        generation_prompt=prompt.removeprefix(question),
    )
