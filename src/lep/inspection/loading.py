"""Whether transformers loads the folder: the version installed here is asked, version 4 is judged by the files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lep.inspection.findings import (
    SETTINGS,
    Fact,
    Finding,
    Folder,
    Problem,
    Remark,
    counted,
    first_line,
    language_config,
)

GROUP = "loading"
GENERIC = "PreTrainedTokenizerFast"
"""The one class that takes a tokenizer.json as it is, in transformers 4 and 5."""

_THETA = {"mixtral": 1e6, "gemma3_text": 1e6, "smollm3": 2e6}
"""What transformers 4 takes for rope_theta where the configuration does not say it; 10000 in the other families."""

_ONLY_IN_5 = ("TokenizersBackend", "SentencePieceBackend", "MistralCommonBackend")


def tokenizer_loads(folder: Folder) -> Iterator[Finding]:
    """Whether AutoTokenizer takes the tokenizer, and reads a text as the tokenizer's own file says."""
    if "settings" not in folder.holds:
        yield Remark(f"no {SETTINGS}: transformers cannot load this tokenizer by itself")
        return
    own, theirs = folder.own_ids, folder.loaded_ids
    name, file = type(folder.loaded).__name__, folder.tokenizer.path.name
    if theirs == own:
        yield Fact(GROUP, "tokenizer", f"{name}, with the ids of {file}")
        return
    at = next((i for i, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b), min(len(own), len(theirs)))
    yield Problem(
        f"transformers loads the tokenizer as {name} and reads a test text in {len(theirs)} tokens, {file} in "
        f"{len(own)}; they part at token {at}: write tokenizer_class {GENERIC} into {SETTINGS}"
        + ("" if file.endswith(".json") else ", beside a tokenizer.json")
    )


def model_loads(folder: Folder) -> Iterator[Finding]:
    """Whether every parameter finds its tensor; the weights themselves are not read."""
    import torch
    import transformers

    name = f"transformers {transformers.__version__}"
    if "quantization_config" in folder.model.config:
        yield Fact(GROUP, name, "not tried: the model is quantized")
        return
    architecture = next(iter(folder.model.config.get("architectures") or []), "")
    kind: Any = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
    how = {"device_map": torch.device("meta"), "output_loading_info": True, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder.path, local_files_only=True)
        _, found = kind.from_pretrained(folder.path, config=config, **how)
    except Exception as error:  # whatever the class of a model raises
        yield Problem(f"{name} does not load the model: {first_line(error)}")
        return
    lost = {what: sorted(map(str, found[f"{what}_keys"])) for what in ("missing", "mismatched", "unexpected")}
    if not any(lost.values()):
        yield Fact(GROUP, name, f"loads, {counted(len(folder.model.checkpoint.entries), 'tensor')}, none missing")
    for what in ("missing", "mismatched"):
        if names := lost[what]:
            yield Problem(f"{name} finds {counted(len(names), what + ' tensor')}, filled with chance: {_few(names)}")
    if names := lost["unexpected"]:
        yield Remark(f"{name} leaves {counted(len(names), 'tensor')} unread: {_few(names)}")


def transformers_4(folder: Folder) -> Iterator[Finding]:
    """What transformers 4 cannot read, or reads as something else without a word."""
    told = [*_tokenizer_in_4(folder.json(SETTINGS)), *_rope_in_4(folder.json("config.json"))]
    config = folder.json("config.json")
    if config.get("dtype") and not config.get("torch_dtype"):
        told.append("before 4.56 does not know dtype and loads float32; write torch_dtype beside it")
    yield Fact(GROUP, "transformers 4", "see the remarks" if told else "its files say nothing against it")
    yield from (Remark(f"transformers 4 {words}") for words in told)


def _tokenizer_in_4(settings: dict[str, Any]) -> Iterator[str]:
    if (name := settings.get("tokenizer_class")) in _ONLY_IN_5:
        yield f"has no tokenizer_class {name} and stops; write {GENERIC} into {SETTINGS}"
    if isinstance(settings.get("extra_special_tokens"), list):
        yield (
            f"takes extra_special_tokens for a mapping and stops at the list in {SETTINGS}; name the list "
            "additional_special_tokens"
        )


def _rope_in_4(config: dict[str, Any]) -> Iterator[str]:
    """Version 5 writes `rope_parameters`; 4 reads `rope_theta` and `rope_scaling`, and has defaults for both."""
    inner = language_config(config)
    rope = inner.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    if any(isinstance(value, dict) for value in rope.values()):
        if "rope_theta" not in inner:
            yield "does not know rope_parameters by kind of layer; write rope_theta and rope_local_base_freq too"
        return
    default, theta = _THETA.get(inner.get("model_type", ""), 1e4), rope.get("rope_theta")
    if theta not in (None, default) and "rope_theta" not in inner:
        yield f"takes rope_theta {default:,.0f} where rope_parameters say {theta:,.0f}; write rope_theta beside them"
    if rope.get("rope_type", "default") != "default" and not inner.get("rope_scaling"):
        yield f"does not scale positions as rope_parameters say ({rope['rope_type']}); write rope_scaling too"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
