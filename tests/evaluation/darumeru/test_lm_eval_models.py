"""What the model itself reads is what its chat template and its tokenizer make of the prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.evaluation.darumeru.lm_eval_models import Watched, in_memory
from lep.evaluation.darumeru.lm_eval_run import ask
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import listen

BEGIN = "<|endoftext|>"


@pytest.fixture
def beginner(make_speaker: Callable[..., Path], tmp_path: Path) -> Path:
    """As Llama-3: the tokenizer begins every text with a token, and the chat template writes that token, too."""
    folder = make_speaker(tmp_path / "beginner")
    state = json.loads((folder / "tokenizer.json").read_text())
    pieces: list[Any] = [{"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {BEGIN: {"id": BEGIN, "ids": [0], "tokens": [BEGIN]}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": pieces,
        "special_tokens": special,
    }
    (folder / "tokenizer.json").write_text(json.dumps(state))
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    return folder


def read(folder: Path, task: str, data: Path, *, shots: int, chat_template: bool) -> tuple[list[list[int]], list[Any]]:
    """The ids that the model reads at first for each request, one at a time, and the records."""
    model, seen = load_model(folder, dtype="float32"), []

    def look(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        ids = (args[0] if args else kwargs["input_ids"])[0].tolist()
        if len(ids) > 1:  # else it goes on with an answer
            seen.append(ids)

    model.register_forward_pre_hook(look, with_kwargs=True)
    inside = Watched(in_memory(model, load_tokenizer(folder), batch_size=1), label="")
    metadata = {"data": str(data), "tokenizer": str(folder)}
    return seen, ask(task, inside, shots=shots, chat_template=chat_template, limit=None, metadata=metadata)


@pytest.mark.parametrize("task", ["darumeru_parus", "darumeru_use"])
@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_begins_once(beginner: Path, task: str, chat: bool, tiny_data: Path) -> None:
    seen, records = read(beginner, task, tiny_data, shots=2, chat_template=chat)
    assert len(seen) == len(records)  # the options of a question are read at once
    assert all(ids[0] == 0 and ids.count(0) == 1 for ids in seen)


def test_the_prompt_is_what_the_chat_template_makes(beginner: Path, tiny_data: Path) -> None:
    tokenizer = load_tokenizer(beginner)
    seen, records = read(beginner, "darumeru_use", tiny_data, shots=0, chat_template=True)
    turns = [
        [{"role": "user", "content": r["prompt"].partition("user\n")[2].partition("<|im_end|>")[0]}] for r in records
    ]
    expected = [tokenizer.apply_chat_template(t, add_generation_prompt=True, return_dict=False) for t in turns]
    assert sorted(seen) == sorted(expected)


def test_progress_counts_requests(make_speaker, tiny_data: Path, tmp_path: Path) -> None:
    class Listener:
        total, done, begun = 0.0, 0.0, 0

        def begin(self, label: str, total: float, unit: str, done: float) -> None:
            self.total, self.begun = self.total + total, self.begun + 1

        def advance(self, amount: float) -> None:
            self.done += amount

        def note(self, text: str) -> None: ...
        def status(self, text: str) -> None: ...
        def end(self) -> None: ...

    heard = Listener()
    listen(heard)
    try:
        for task in ("darumeru_rwsd", "darumeru_use"):
            read(make_speaker(tmp_path / task), task, tiny_data, shots=0, chat_template=True)
    finally:
        listen(None)
    assert heard.begun == 2 and heard.total == heard.done == 4 * 2 + 8
