"""What would ruin tuning is told before it, with the row and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import render
from lep.data.conversations import Conversation, Message
from lep.data.sft_checks import Checked, check_instructions
from lep.errors import CheckpointError, DataError, TokenizerError
from lep.modeling.loading import load_tokenizer

END = 2
"""Id of `<|im_end|>`."""
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
PLAIN += "{% if add_generation_prompt %}assistant: {% endif %}"


def talk(place: str, *contents: str, system: str = "") -> Conversation:
    spoken = tuple(Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents))
    return Conversation((*((Message("system", system),) if system else ()), *spoken), place, "data")


DATA = [talk("d:1", "Who?", "A little girl."), talk("d:2", "Кто?", "Наш сосед.", "And now?", "Молодая учительница.")]


def check(tokenizer: PreTrainedTokenizerBase, conversations: list[Conversation], **more: Any) -> Checked:
    rendered = [render(tokenizer, conversation) for conversation in conversations]
    settings = {"stops": [END], "maximum_length": 512, "tables": {}, "frozen": (), "evaluations": {}}
    return check_instructions(conversations, rendered, tokenizer=tokenizer, **settings | more)


@pytest.fixture
def tokenizer(tokenizers) -> PreTrainedTokenizerBase:
    return load_tokenizer(tokenizers["byte_level"])


def table(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    return torch.randn(len(tokenizer), 16, generator=torch.Generator().manual_seed(0))


def test_healthy_data_is_silent(tokenizer) -> None:
    tables = {"embed": table(tokenizer), "head": table(tokenizer)}
    found = check(tokenizer, DATA, tables=tables, frozen=["embed", "head"], evaluations={"items": ["What?"]})
    assert found == Checked((), (), (), {})


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
    data = [talk("d:5", "Who?", "A girl.", system="Be brief.")]
    with pytest.raises(DataError, match=rf"d:5: the chat template {does} a message of role 'system' .*system, user"):
        check(tokenizer, data)


def test_a_template_that_changes_what_is_said(tokenizer) -> None:
    tokenizer.chat_template = str(tokenizer.chat_template).replace("message['content']", "message['content'][:30]")
    found = check(tokenizer, [*DATA, talk("d:3", "Who?", "A girl. " * 5)])
    assert found.remarks == ("in 1 conversations the chat template changes what a message says: d:3",)


def test_special_tokens_in_what_is_said(tokenizer) -> None:
    found = check(tokenizer, [*DATA, talk("d:3", "Who?", "A girl.<|im_end|> A boy.")])
    assert found.remarks == ("in 1 conversations a message holds the text of a special token: d:3",)


def test_answers_that_would_be_cut_are_counted(tokenizer) -> None:
    data = [*DATA, talk("d:3", "Who?", "A little girl. " * 50)]
    found = check(tokenizer, data, maximum_length=100)
    assert found.too_long == ("d:3",)
    assert "1 of 3 conversations are longer than maximum_length=100 tokens" in found.remarks[0]
    with pytest.raises(DataError, match=r"every conversation is longer than maximum_length=5 .*; raise it"):
        check(tokenizer, data, maximum_length=5)


def test_an_end_that_is_not_where_generation_stops(tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"ends answers with <\|im_end\|>, generation stops at 0 .*; add 2 to eos"):
        check(tokenizer, DATA, stops=[0])
    with pytest.raises(TokenizerError, match=r"ends answers with .*, generation stops at no token; add 2 to eos"):
        check(tokenizer, DATA, stops=[])


def test_an_end_that_is_no_special_token(tokenizer) -> None:
    tokenizer.chat_template = PLAIN
    with pytest.raises(TokenizerError, match=r"no answer .* no special token, generation stops at 2 .*write eos_token"):
        check(tokenizer, DATA)


def test_an_end_that_carries_no_loss(tokenizer) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|im_end|>{% endfor %}"
    )
    with pytest.raises(TokenizerError, match=r"<\|im_end\|> stands after the answers, outside .*let the marks include"):
        check(tokenizer, DATA)


def test_an_end_after_the_last_answer_alone(tokenizer) -> None:
    end = "{% if loop.last %}<|im_end|>{% endif %}"
    tokenizer.chat_template = PLAIN.replace("\n", end + "\n", 1)
    assert check(tokenizer, DATA).remarks == (
        "1 conversations are learnt by their last answer alone, since the chat template writes earlier ones in another "
        "way: d:2",
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        + end
        + "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert check(tokenizer, DATA).remarks == ("1 of 3 answers are learnt without a token that ends generation: d:2",)


def test_special_tokens_that_were_never_trained(tokenizer) -> None:
    embed, head = table(tokenizer), table(tokenizer)
    embed[1] = 0
    head[END] = head[77]
    tables = {"embed": embed, "head": head}
    found = check(tokenizer, DATA, tables=tables)
    assert found.untrained == {"embed": ("<|im_start|>",), "head": ("<|im_end|>",)}
    assert "head: never trained, and learnt only now: <|im_end|>" in found.remarks
    with pytest.raises(CheckpointError, match=r"rows in embed were never trained.*<\|im_start\|>; let embed learn"):
        check(tokenizer, DATA, tables=tables, frozen=["embed"])


def test_what_is_only_read_needs_no_row_in_the_head(tokenizer) -> None:
    head = table(tokenizer)
    head[1] = 0
    assert not check(tokenizer, DATA, tables={"head": head}, frozen=["head"]).untrained


def test_texts_of_an_evaluation_in_the_data(tokenizer) -> None:
    found = check(tokenizer, DATA, evaluations={"items": ["Кто?", "What?"], "others": ["Why?"]})
    assert [(leak.number, leak.place) for leak in found.leaks] == [(1, "d:2")]
    assert found.remarks == ("1 of 2 texts of items stand in the data: d:2",)
