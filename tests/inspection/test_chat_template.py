"""Chat templates: absent, broken, with markers that are not tokens, with answers that do not end."""

from __future__ import annotations

import json
from pathlib import Path

from lep.inspection.inspect import inspect


def read_facts(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "chat"}


def write(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)


def test_a_template_that_renders(healthy: Path) -> None:
    facts = read_facts(healthy)
    assert facts["template"] == "renders, with <|im_start|> <|im_end|>"
    assert facts["answers end with"] == "2 '<|im_end|>'"


def test_no_template_is_a_fact(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert read_facts(model) == {"template": "none"} and not inspect(model).problems


def test_a_template_that_does_not_render(model: Path) -> None:
    write(model, "{{ messages[0]['content'] + missing.thing }}")
    assert any("refuses this conversation" in problem for problem in inspect(model).problems)
    write(model, "{% for message in %}")
    assert any("expected an expression" in problem.lower() for problem in inspect(model).problems)


def test_markers_that_are_not_tokens(model: Path) -> None:
    write(model, "{% for m in messages %}<|user|>{{ m['content'] }}<|im_end|>{% endfor %}")
    (remark,) = [remark for remark in inspect(model).remarks if "<|user|>" in remark]
    assert "writes <|user|>, which is not a token: it is split into " in remark


def test_an_answer_that_ends_where_generation_does_not_stop(model: Path, change) -> None:
    change(model / "generation_config.json", eos_token_id=[0])
    (remark,) = [remark for remark in inspect(model).remarks if "ends an answer" in remark]
    assert (
        "generation does not stop at 2 '<|im_end|>', with which the chat template ends an answer (it stops at 0); add 2"
        in remark
    )


def test_an_answer_without_an_end(model: Path) -> None:
    write(model, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    assert any("ends an answer without a special token" in remark for remark in inspect(model).remarks)


def test_a_conversation_that_decodes_to_another_text(model: Path, change) -> None:
    state = json.loads((model / "tokenizer.json").read_text())
    change(model / "tokenizer.json", normalizer={"type": "Lowercase"}, model=state["model"])
    (remark,) = [remark for remark in inspect(model).remarks if "does not give its text" in remark]
    assert "Какая" in remark and "какая" in remark
