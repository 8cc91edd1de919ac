"""A tokenizer.json with another model: special tokens get other ids, everything else stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lep.io.sentencepiece_file import State


def with_model(state: State, model: State, *, ids: Mapping[str, int]) -> State:
    """The same normalizer, pre-tokenizer, decoder and added tokens around another model.

    Args:
        state: a tokenizer.json.
        model: its new model.
        ids: the id of every added token, by its text.
    """
    changed = state | {"model": model}
    changed["added_tokens"] = sorted(
        ({**item, "id": ids[item["content"]]} for item in state.get("added_tokens", [])), key=lambda item: item["id"]
    )
    changed["post_processor"] = _renumbered(state.get("post_processor"), ids)
    if state.get("padding"):
        changed["padding"] = state["padding"] | {"pad_id": ids[state["padding"]["pad_token"]]}
    return changed


def with_added_tokens(state: State, instruct: State, *, first: int) -> State:
    """The adapted tokenizer with what the instruct model's adds to a text.

    Added tokens that it lacks are numbered from `first`; those that both have are what the instruct model says of them
    (special or shown, with or without the space beside it); and the same tokens are put around a text.

    `tokenizers` numbers an added token after the tokens that there are, whatever the file says: where ids below
    `first` are not used, the vocabulary names the token too.
    """
    theirs = {item["content"]: item for item in instruct.get("added_tokens", [])}
    items = [{**theirs.pop(item["content"], item), "id": item["id"]} for item in state.get("added_tokens", [])]
    lacking = [{**item, "id": first + i} for i, item in enumerate(theirs.values())]
    model, ids = state["model"], {item["content"]: item["id"] for item in [*items, *lacking]}
    if isinstance(model["vocab"], Mapping):
        if len({*model["vocab"].values(), *(item["id"] for item in items)}) < first:
            model = model | {"vocab": model["vocab"] | {item["content"]: item["id"] for item in lacking}}
        ids = {**model["vocab"], **ids}
    changed = state | {"added_tokens": [*items, *lacking], "model": model}
    return changed | {"post_processor": _renumbered(instruct.get("post_processor"), ids)}


def _renumbered(part: Any, ids: Mapping[str, int]) -> Any:
    """A post-processor that puts the same tokens around a text, by their new ids."""
    if not isinstance(part, dict):
        return part
    changed = dict(part)
    if part["type"] == "Sequence":
        changed["processors"] = [_renumbered(item, ids) for item in part["processors"]]
    if part["type"] == "TemplateProcessing":
        changed["special_tokens"] = {
            name: token | {"ids": [ids[text] for text in token["tokens"]]}
            for name, token in part["special_tokens"].items()
        }
    if part["type"] in ("BertProcessing", "RobertaProcessing"):
        changed |= {key: [part[key][0], ids[part[key][0]]] for key in ("sep", "cls")}
    return changed
