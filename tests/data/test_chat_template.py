"""The answers of a conversation and their end tokens are found with any chat template."""

from __future__ import annotations

import copy
from importlib.resources import files
from itertools import product

import pytest
from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import render_chat, tokenize_conversation
from lep.data.conversations import Conversation, Message
from lep.errors import DataError, TokenizerError
from lep.modeling.loading import load_tokenizer

MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = sorted(
    file.name
    for file in files("trl").joinpath("chat_templates").iterdir()
    if file.name.endswith(".jinja") and not file.name.startswith(("idefics", "llava", "smolvlm"))
)
"""Those of models that read text; the others take a message in parts."""
QUESTIONS, ANSWERS = ("Кто это?", "And now?"), ("A little girl.", "Наш сосед.")


def make_conversation(*first_messages: Message, first_answer: int = 0) -> Conversation:
    """Two questions and two answers, after these messages."""
    turns = [
        Message(role, text)
        for pair in zip(QUESTIONS, ANSWERS, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return Conversation((*first_messages, *turns), "data.jsonl:7", "data", first_answer)


def decode_answers(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[str]:
    tokenized = tokenize_conversation(tokenizer, conversation)
    assert sum(tokenized.assistant_masks) == sum(end - start for start, end in tokenized.answer_spans)
    return [str(tokenizer.decode(tokenized.input_ids[start:end])) for start, end in tokenized.answer_spans]


@pytest.fixture
def tokenizer(tokenizers) -> PreTrainedTokenizerBase:
    return load_tokenizer(tokenizers["byte_level"])


def with_trl_template(tokenizer: PreTrainedTokenizerBase, name: str, *special: str) -> PreTrainedTokenizerBase:
    """A tokenizer with a template that trl ships, and its special tokens."""
    other = copy.deepcopy(tokenizer)
    other.add_tokens(list(special), special_tokens=True)
    other.chat_template = files("trl").joinpath("chat_templates", name).read_text()
    return other


def test_all_answers_with_the_end_of_their_turns(tokenizer) -> None:
    assert decode_answers(tokenizer, make_conversation()) == [f"{answer}<|im_end|>\n" for answer in ANSWERS]


def test_generation_marks_of_the_template_are_used(tokenizer) -> None:
    tokenizer.chat_template = MARKED
    assert decode_answers(tokenizer, make_conversation()) == [f"{answer}<|im_end|>" for answer in ANSWERS]


@pytest.mark.parametrize("marked", [False, True])
def test_only_the_completion_is_trained_after_a_prompt(tokenizer, marked: bool) -> None:
    if marked:
        tokenizer.chat_template = MARKED
    (only,) = decode_answers(tokenizer, make_conversation(first_answer=3))
    assert only.startswith("Наш сосед.<|im_end|>")


def test_the_ids_are_those_of_the_rendered_text(tokenizer) -> None:
    tokenized = tokenize_conversation(tokenizer, make_conversation(Message("system", "Be brief.")))
    assert tokenizer.decode(tokenized.input_ids) == tokenized.text and tokenized.misaligned_answers == 0


def test_llama(tokenizer) -> None:
    llama = with_trl_template(tokenizer, "llama3.jinja", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    assert decode_answers(llama, make_conversation(Message("system", "Be brief."))) == [
        f"{answer}<|eot_id|>" for answer in ANSWERS
    ]


def test_a_tokenizer_that_writes_spaces_into_words(tokenizers) -> None:
    mistral = load_tokenizer(tokenizers["metaspace"])
    mistral.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<s>[INST] {{ m['content'] }} [/INST]{% else %} "
        "{{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    tokenized = tokenize_conversation(mistral, make_conversation())
    assert mistral.convert_ids_to_tokens([tokenized.input_ids[end - 1] for _, end in tokenized.answer_spans]) == [
        "</s>",
        "</s>",
    ]
    assert [answer.strip() for answer in decode_answers(mistral, make_conversation())] == [
        f"{answer}</s>" for answer in ANSWERS
    ]
    assert tokenized.misaligned_answers == 0


def test_a_template_that_refuses_a_system_message(tokenizer) -> None:
    gemma = with_trl_template(tokenizer, "gemma.jinja", "<start_of_turn>", "<end_of_turn>")
    assert decode_answers(gemma, make_conversation()) == [f"{answer}<end_of_turn>\n" for answer in ANSWERS]
    with pytest.raises(
        DataError, match=r"data.jsonl:7: the chat template of .* refuses .*may not support system messages"
    ):
        tokenize_conversation(gemma, make_conversation(Message("system", "Be brief.")))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_that_trl_ships(tokenizer, name: str) -> None:
    answers = decode_answers(with_trl_template(tokenizer, name), make_conversation())
    assert ANSWERS[-1] in answers[-1] and len(answers) <= 2
    assert not any(question in answer for question, answer in product(QUESTIONS, answers))


def test_only_the_last_answer_is_found_if_earlier_turns_are_rendered_differently(tokenizer) -> None:
    qwen = with_trl_template(tokenizer, "qwen3.jinja", "<think>", "</think>")
    (only,) = decode_answers(qwen, make_conversation())
    assert only == "<think>\n\n</think>\n\nНаш сосед.<|im_end|>\n"


def test_an_answer_that_shares_a_token_with_its_prompt(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert tokenize_conversation(tokenizer, make_conversation()).misaligned_answers == 0
    conversation = Conversation(
        (Message("user", "Who?"), Message("assistant", "old professor.")), "data.jsonl:1", "data"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}The {{ m['content'] }}{% endfor %}{% if add_generation_prompt %}The o{% endif %}"
    )
    assert tokenize_conversation(tokenizer, conversation).misaligned_answers == 1


def test_marks_that_are_not_the_answers(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.last %}{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}"
        "{{ m['content'] }}\n{% endif %}{% endfor %}"
    )
    with pytest.raises(DataError, match=r"data.jsonl:7: the chat template marks 1 answers .* has 2"):
        tokenize_conversation(tokenizer, make_conversation())


def test_a_tokenizer_without_a_template(tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TokenizerError, match="has no chat template"):
        tokenize_conversation(tokenizer, make_conversation())


def test_an_error_of_a_template_names_source_tokenizer_and_reason(tokenizer) -> None:
    messages = [{"role": "user", "content": "Who?"}]
    assert render_chat(tokenizer, messages, add_generation_prompt=True, source="d:1").endswith("assistant\n")
    tokenizer.chat_template = "{{ messages[0]['content'] + missing.thing }}"
    with pytest.raises(
        DataError,
        match=r"^d:1: the chat template of .*byte_level refuses .*\(UndefinedError: .*\); correct the template",
    ):
        render_chat(tokenizer, messages, add_generation_prompt=False, source="d:1")
