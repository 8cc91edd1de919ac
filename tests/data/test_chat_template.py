"""What is learnt of a conversation: the answers and their ends, whatever the chat template is like."""

from __future__ import annotations

import copy
from importlib.resources import files
from itertools import product

import pytest
from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import render
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


def talk(*more: Message, first_answer: int = 0) -> Conversation:
    """Two questions and two answers, after these messages."""
    spoken = [
        Message(role, text)
        for pair in zip(QUESTIONS, ANSWERS, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return Conversation((*more, *spoken), "data.jsonl:7", "data", first_answer)


def learnt(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[str]:
    found = render(tokenizer, conversation)
    assert sum(found.learnt) == sum(end - start for start, end in found.answers)
    return [str(tokenizer.decode(found.ids[start:end])) for start, end in found.answers]


@pytest.fixture
def tokenizer(tokenizers) -> PreTrainedTokenizerBase:
    return load_tokenizer(tokenizers["byte_level"])


def published(tokenizer: PreTrainedTokenizerBase, name: str, *special: str) -> PreTrainedTokenizerBase:
    """A tokenizer with a template that trl ships, and its special tokens."""
    other = copy.deepcopy(tokenizer)
    other.add_tokens(list(special), special_tokens=True)
    other.chat_template = files("trl").joinpath("chat_templates", name).read_text()
    return other


def test_all_answers_with_the_end_of_their_turns(tokenizer) -> None:
    assert learnt(tokenizer, talk()) == [f"{answer}<|im_end|>\n" for answer in ANSWERS]


def test_marks_of_the_template_are_followed(tokenizer) -> None:
    tokenizer.chat_template = MARKED
    assert learnt(tokenizer, talk()) == [f"{answer}<|im_end|>" for answer in ANSWERS]


@pytest.mark.parametrize("marked", [False, True])
def test_of_prompt_and_completion_the_latter_is_learnt(tokenizer, marked: bool) -> None:
    if marked:
        tokenizer.chat_template = MARKED
    (only,) = learnt(tokenizer, talk(first_answer=3))
    assert only.startswith("Наш сосед.<|im_end|>")


def test_the_ids_are_those_of_the_rendered_text(tokenizer) -> None:
    found = render(tokenizer, talk(Message("system", "Be brief.")))
    assert tokenizer.decode(found.ids) == found.text and found.crossed == 0


def test_llama(tokenizer) -> None:
    llama = published(tokenizer, "llama3.jinja", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    assert learnt(llama, talk(Message("system", "Be brief."))) == [f"{answer}<|eot_id|>" for answer in ANSWERS]


def test_a_tokenizer_that_writes_spaces_into_words(tokenizers) -> None:
    mistral = load_tokenizer(tokenizers["metaspace"])
    mistral.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<s>[INST] {{ m['content'] }} [/INST]{% else %} "
        "{{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    found = render(mistral, talk())
    assert mistral.convert_ids_to_tokens([found.ids[end - 1] for _, end in found.answers]) == ["</s>", "</s>"]
    assert [answer.strip() for answer in learnt(mistral, talk())] == [f"{answer}</s>" for answer in ANSWERS]
    assert found.crossed == 0


def test_a_template_that_refuses_a_system_message(tokenizer) -> None:
    gemma = published(tokenizer, "gemma.jinja", "<start_of_turn>", "<end_of_turn>")
    assert learnt(gemma, talk()) == [f"{answer}<end_of_turn>\n" for answer in ANSWERS]
    with pytest.raises(DataError, match=r"data.jsonl:7: the chat template refuses .*may not know system messages"):
        render(gemma, talk(Message("system", "Be brief.")))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_that_trl_ships(tokenizer, name: str) -> None:
    answers = learnt(published(tokenizer, name), talk())
    assert ANSWERS[-1] in answers[-1] and len(answers) <= 2
    assert not any(question in answer for question, answer in product(QUESTIONS, answers))


def test_where_earlier_turns_are_written_otherwise_the_last_answer_is_learnt(tokenizer) -> None:
    qwen = published(tokenizer, "qwen3.jinja", "<think>", "</think>")
    (only,) = learnt(qwen, talk())
    assert only == "<think>\n\n</think>\n\nНаш сосед.<|im_end|>\n"


def test_an_answer_that_shares_a_token_with_its_prompt(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert render(tokenizer, talk()).crossed == 0
    stuck = Conversation((Message("user", "Who?"), Message("assistant", "old professor.")), "data.jsonl:1", "data")
    tokenizer.chat_template = (
        "{% for m in messages %}The {{ m['content'] }}{% endfor %}{% if add_generation_prompt %}The o{% endif %}"
    )
    assert render(tokenizer, stuck).crossed == 1


def test_marks_that_are_not_the_answers(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.last %}{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}"
        "{{ m['content'] }}\n{% endif %}{% endfor %}"
    )
    with pytest.raises(DataError, match=r"data.jsonl:7: the chat template marks 1 answers .* has 2"):
        render(tokenizer, talk())


def test_a_tokenizer_without_a_template(tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TokenizerError, match="has no chat template"):
        render(tokenizer, talk())
