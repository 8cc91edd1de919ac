"""Chat templates translated for Ollama: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lep.gguf.ollama_template import OllamaTemplate, infer_ollama_template

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
UNTRANSLATABLE = {
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
        fast_tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, bos_token="<s>", eos_token="</s>")
        fast_tokenizer.chat_template = template
        return fast_tokenizer

    return make


RANGE = re.compile(r"\{\{ range \$i, \$turn := \.Messages \}\}(.*)\{\{ end \}\}(.*?)", re.DOTALL)
FIRST = re.compile(r'\{\{ if and \(eq \$i 0\) \(ne \.Role "system"\) \}\}(.*?)\{\{ end \}\}', re.DOTALL)
CASE = re.compile(r'\{\{ if eq \.Role "(\w+)" \}\}(.*?)\{\{ \.Content \}\}(.*?)\{\{ end \}\}', re.DOTALL)


def render_go(template: str, turns: Sequence[tuple[str, str]]) -> str:
    """Render the subset of Go's template language that is used."""
    body, after = RANGE.fullmatch(template).groups()
    opening, text = FIRST.match(body), ""
    if opening and turns[0][0] != "system":
        text = opening[1]
    for role, content in turns:
        for case in CASE.finditer(body, opening.end() if opening else 0):
            text += case[2] + content + case[3] if case[1] == role else ""
    return text + after


@pytest.mark.parametrize("name", TEMPLATES)
def test_translations_render_the_same_text(name: str, tokenizer: Callable) -> None:
    chat_tokenizer = tokenizer(TEMPLATES[name])
    template = infer_ollama_template(chat_tokenizer, adds_bos=True)
    assert template is not None
    turns = [("user", "Привет\n\nты где?"), ("assistant", "Here: `x`"), ("user", "?")]
    conversations = [turns[:1], turns, *([[("system", "Be kind."), *turns]] if name != "mistral" else [])]
    for conversation in conversations:
        messages = [{"role": role, "content": content} for role, content in conversation]
        text = chat_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True).removeprefix(
            "<s>"
        )
        assert template.render(conversation) == text == render_go(template.to_go_template(), conversation)
    assert ("system" in template.role_affixes) == (name != "mistral")
    assert bool(template.conversation_prefix) == (name == "chatml with a system turn of its own")


@pytest.mark.parametrize("name", UNTRANSLATABLE)
def test_templates_that_depend_on_more_than_the_role_are_not_translated(name: str, tokenizer: Callable) -> None:
    assert infer_ollama_template(tokenizer(UNTRANSLATABLE[name]), adds_bos=True) is None


def test_bos_stays_in_the_template_unless_the_runtime_adds_it(tokenizer: Callable) -> None:
    template = infer_ollama_template(tokenizer(TEMPLATES["llama-3"]), adds_bos=False)
    assert template is None or template.render([("user", "a")]).startswith("<s>")


def test_go_template() -> None:
    template = OllamaTemplate(
        {"user": ("U:", "\n"), "assistant": ("A:", "\n")}, conversation_prefix="Hi\n", generation_prompt="A:"
    )
    assert template.to_go_template() == (
        '{{ range $i, $turn := .Messages }}{{ if and (eq $i 0) (ne .Role "system") }}Hi\n{{ end }}'
        '{{ if eq .Role "user" }}U:{{ .Content }}\n{{ end }}{{ if eq .Role "assistant" }}A:{{ .Content }}\n{{ end }}'
        "{{ end }}A:"
    )
