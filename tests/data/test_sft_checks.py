"""Problems of the data are reported before training, with the row and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import tokenize_conversation
from lep.data.conversations import Conversation, Message
from lep.data.sft_checks import SFTCheckReport, check_sft_conversations
from lep.errors import CheckpointError, DataError, TokenizerError
from lep.modeling.loading import load_tokenizer

END = 2
"""Id of `<|im_end|>`."""
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
PLAIN += "{% if add_generation_prompt %}assistant: {% endif %}"


def make_conversation(place: str, *contents: str, system: str = "") -> Conversation:
    turns = tuple(Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents))
    return Conversation((*((Message("system", system),) if system else ()), *turns), place, "data")


DATA = [
    make_conversation("d:1", "Who?", "A little girl."),
    make_conversation("d:2", "Кто?", "Наш сосед.", "And now?", "Молодая учительница."),
]


def check(tokenizer: PreTrainedTokenizerBase, conversations: list[Conversation], **options: Any) -> SFTCheckReport:
    rendered = [tokenize_conversation(tokenizer, conversation) for conversation in conversations]
    settings = {"stop_ids": [END], "max_length": 512, "embeddings": {}, "frozen_embeddings": (), "evaluations": {}}
    return check_sft_conversations(conversations, rendered, tokenizer=tokenizer, **settings | options)


@pytest.fixture
def tokenizer(tokenizers) -> PreTrainedTokenizerBase:
    return load_tokenizer(tokenizers["byte_level"])


def make_embedding(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    return torch.randn(len(tokenizer), 16, generator=torch.Generator().manual_seed(0))


def test_good_data_gives_no_warning(tokenizer) -> None:
    embeddings = {"embed": make_embedding(tokenizer), "head": make_embedding(tokenizer)}
    report = check(
        tokenizer, DATA, embeddings=embeddings, frozen_embeddings=["embed", "head"], evaluations={"items": ["What?"]}
    )
    assert report == SFTCheckReport((), (), (), {})


@pytest.mark.parametrize(
    ("template", "does"),
    [
        ("{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}", "drops"),
        (
            "{{ messages[0]['content'] }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "writes 2 times",
        ),
    ],
)
def test_a_template_that_disagrees_with_the_data(tokenizer, template: str, does: str) -> None:
    tokenizer.chat_template = template
    data = [make_conversation("d:5", "Who?", "A girl.", system="Be brief.")]
    with pytest.raises(DataError, match=rf"d:5: the chat template {does} a message of role 'system' .*system, user"):
        check(tokenizer, data)


def test_a_template_that_changes_a_message(tokenizer) -> None:
    tokenizer.chat_template = str(tokenizer.chat_template).replace("message['content']", "message['content'][:30]")
    report = check(tokenizer, [*DATA, make_conversation("d:3", "Who?", "A girl. " * 5)])
    assert report.warnings == ("in 1 conversations the chat template changes the text of a message: d:3",)


def test_special_tokens_in_a_message(tokenizer) -> None:
    report = check(tokenizer, [*DATA, make_conversation("d:3", "Who?", "A girl.<|im_end|> A boy.")])
    assert report.warnings == ("in 1 conversations a message contains the text of a special token: d:3",)


def test_too_long_conversations_are_counted(tokenizer) -> None:
    data = [*DATA, make_conversation("d:3", "Who?", "A little girl. " * 50)]
    report = check(tokenizer, data, max_length=100)
    assert report.too_long == ("d:3",)
    assert "1 of 3 conversations are longer than max_length=100 tokens" in report.warnings[0]
    with pytest.raises(DataError, match=r"every conversation is longer than max_length=5 .*; raise it"):
        check(tokenizer, data, max_length=5)


def test_answers_that_end_with_another_token_than_generation(tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"ends answers with <\|im_end\|>, generation stops at 0 .*; add 2 to eos"):
        check(tokenizer, DATA, stop_ids=[0])
    with pytest.raises(TokenizerError, match=r"ends answers with .*, generation stops at no token; add 2 to eos"):
        check(tokenizer, DATA, stop_ids=[])


def test_answers_that_end_without_a_special_token(tokenizer) -> None:
    tokenizer.chat_template = PLAIN
    with pytest.raises(TokenizerError, match=r"no answer .* no special token, generation stops at 2 .*write eos_token"):
        check(tokenizer, DATA)


def test_an_end_token_without_loss(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|im_end|>{% endfor %}"
    )
    with pytest.raises(TokenizerError, match=r"<\|im_end\|> follows the answers, .* outside .*include it in the marks"):
        check(tokenizer, DATA)


def test_an_end_token_after_the_last_answer_only(tokenizer) -> None:
    end = "{% if loop.last %}<|im_end|>{% endif %}"
    tokenizer.chat_template = PLAIN.replace("\n", end + "\n", 1)
    assert check(tokenizer, DATA).warnings == (
        "in 1 conversations only the last answer is trained, since the chat template renders earlier ones differently: "
        "d:2",
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        + end
        + "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert check(tokenizer, DATA).warnings == ("1 of 3 answers are trained without a token that ends generation: d:2",)


def test_special_tokens_that_were_never_trained(tokenizer) -> None:
    embed, head = make_embedding(tokenizer), make_embedding(tokenizer)
    embed[1] = 0
    head[END] = head[77]
    embeddings = {"embed": embed, "head": head}
    report = check(tokenizer, DATA, embeddings=embeddings)
    assert report.untrained_tokens == {"embed": ("<|im_start|>",), "head": ("<|im_end|>",)}
    assert "head: first trained in this run: <|im_end|>" in report.warnings
    with pytest.raises(CheckpointError, match=r"rows in embed were never trained.*frozen: <\|im_start\|>; train embed"):
        check(tokenizer, DATA, embeddings=embeddings, frozen_embeddings=["embed"])


def test_prompt_tokens_need_no_trained_row_in_the_head(tokenizer) -> None:
    head = make_embedding(tokenizer)
    head[1] = 0
    assert not check(tokenizer, DATA, embeddings={"head": head}, frozen_embeddings=["head"]).untrained_tokens


def test_texts_of_an_evaluation_in_the_data(tokenizer) -> None:
    report = check(tokenizer, DATA, evaluations={"items": ["Кто?", "What?"], "others": ["Why?"]})
    assert [(contamination.text_number, contamination.place) for contamination in report.contaminations] == [(1, "d:2")]
    assert report.warnings == ("1 of 2 texts of items are in the data: d:2",)
