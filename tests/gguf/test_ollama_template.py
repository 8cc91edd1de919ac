"""Chat templates written again for Ollama: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lep.gguf.ollama_template import Dialogue, dialogue

TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "chatml with a system turn of its own": (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
        "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    "openchat": (
        "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m['role'].title() + ': ' + m['content'] + "
        "'<|end_of_turn|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
    ),
    "thoughts only in the last answer": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if m['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
        "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
OTHERS = {
    "counts turns": "{% for m in messages %}{{ loop.index ~ m['role'] ~ ': ' ~ m['content'] ~ '\n' }}{% endfor %}",
    "the last question apart": (
        "{% for m in messages %}{{ ('LAST ' if loop.last else '') ~ m['role'] ~ ': ' ~ m['content'] }}{% endfor %}"
    ),
    "drops answers": "{% for m in messages if m['role'] == 'user' %}{{ '<' + m['content'] + '>' }}{% endfor %}",
    "looks like Go": "{% for m in messages %}{{ '{{' + m['role'] + ' ' + m['content'] + '\n' }}{% endfor %}",
    "fails": "{{ raise_exception('no') }}",
}


@pytest.fixture(scope="module")
def tokenizer(tokenizers: Mapping) -> Callable[[str], PreTrainedTokenizerBase]:
    def make(template: str) -> PreTrainedTokenizerBase:
        file = str(tokenizers["byte_level"] / "tokenizer.json")
        found = PreTrainedTokenizerFast(tokenizer_file=file, bos_token="<s>", eos_token="</s>")
        found.chat_template = template
        return found

    return make


RANGE = re.compile(r"\{\{ range \$i, \$turn := \.Messages \}\}(.*)\{\{ end \}\}(.*?)", re.DOTALL)
FIRST = re.compile(r'\{\{ if and \(eq \$i 0\) \(ne \.Role "system"\) \}\}(.*?)\{\{ end \}\}', re.DOTALL)
CASE = re.compile(r'\{\{ if eq \.Role "(\w+)" \}\}(.*?)\{\{ \.Content \}\}(.*?)\{\{ end \}\}', re.DOTALL)


def run(template: str, turns: Sequence[tuple[str, str]]) -> str:
    """What Go makes of the little of its language that is used."""
    body, after = RANGE.fullmatch(template).groups()
    opening, text = FIRST.match(body), ""
    if opening and turns[0][0] != "system":
        text = opening[1]
    for role, content in turns:
        for case in CASE.finditer(body, opening.end() if opening else 0):
            text += case[2] + content + case[3] if case[1] == role else ""
    return text + after


@pytest.mark.parametrize("name", TEMPLATES)
def test_conversations_are_written_alike(name: str, tokenizer: Callable) -> None:
    made = tokenizer(TEMPLATES[name])
    found = dialogue(made, begins=True)
    assert found is not None
    turns = [("user", "Привет\n\nты где?"), ("assistant", "Here: `x`"), ("user", "?")]
    wholes = [turns[:1], turns, *([[("system", "Be kind."), *turns]] if name != "mistral" else [])]
    for whole in wholes:
        messages = [{"role": role, "content": content} for role, content in whole]
        text = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True).removeprefix("<s>")
        assert found.render(whole) == text == run(found.template(), whole)
    assert ("system" in found.around) == (name != "mistral")
    assert bool(found.opening) == (name == "chatml with a system turn of its own")


@pytest.mark.parametrize("name", OTHERS)
def test_what_depends_on_more_than_the_role_is_left_alone(name: str, tokenizer: Callable) -> None:
    assert dialogue(tokenizer(OTHERS[name]), begins=True) is None


def test_a_beginning_that_the_program_does_not_write_stays(tokenizer: Callable) -> None:
    found = dialogue(tokenizer(TEMPLATES["llama-3"]), begins=False)
    assert found is None or found.render([("user", "a")]).startswith("<s>")


def test_the_language_of_ollama() -> None:
    found = Dialogue({"user": ("U:", "\n"), "assistant": ("A:", "\n")}, opening="Hi\n", answer="A:")
    assert found.template() == (
        '{{ range $i, $turn := .Messages }}{{ if and (eq $i 0) (ne .Role "system") }}Hi\n{{ end }}'
        '{{ if eq .Role "user" }}U:{{ .Content }}\n{{ end }}{{ if eq .Role "assistant" }}A:{{ .Content }}\n{{ end }}'
        "{{ end }}A:"
    )
