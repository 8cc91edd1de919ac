"""Check whether transformers loads the folder: by loading with the installed version, by the files for version 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lep.inspection.findings import (
    TOKENIZER_CONFIG,
    Fact,
    Finding,
    InspectedFolder,
    Problem,
    Remark,
    find_first_difference,
    format_count,
    get_language_config,
    summarize_error,
)

LOADING_GROUP = "loading"
GENERIC_TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""The class that uses a tokenizer.json unchanged, in transformers 4 and 5."""

_DEFAULT_ROPE_THETA = {"mixtral": 1e6, "gemma3_text": 1e6, "smollm3": 2e6}
"""Default rope_theta of transformers 4 by `model_type`; 10000 for the others."""

_TRANSFORMERS_5_CLASSES = ("TokenizersBackend", "SentencePieceBackend", "MistralCommonBackend")


def check_tokenizer_loading(folder: InspectedFolder) -> Iterator[Finding]:
    """Check that AutoTokenizer loads the tokenizer, and gives the ids of the tokenizer file."""
    if "settings" not in folder.contents:
        yield Remark(f"no {TOKENIZER_CONFIG}: transformers cannot load this tokenizer by itself")
        return
    expected, ids = folder.tokenizer_file_ids, folder.transformers_ids
    name, file = type(folder.transformers_tokenizer).__name__, folder.tokenizer.path.name
    if ids == expected:
        yield Fact(LOADING_GROUP, "tokenizer", f"{name}, with the ids of {file}")
        return
    start = find_first_difference(expected, ids)
    yield Problem(
        f"transformers loads the tokenizer as {name} and encodes a test text in {len(ids)} tokens, {file} in "
        f"{len(expected)}; they differ from token {start} on: set tokenizer_class to {GENERIC_TOKENIZER_CLASS} in "
        f"{TOKENIZER_CONFIG}" + ("" if file.endswith(".json") else ", with a tokenizer.json in the folder")
    )


def check_model_loading(folder: InspectedFolder) -> Iterator[Finding]:
    """Check that every parameter has its tensor; no weight is read."""
    import torch
    import transformers

    name = f"transformers {transformers.__version__}"
    if "quantization_config" in folder.model.config:
        yield Fact(LOADING_GROUP, name, "not tried: the model is quantized")
        return
    architecture = next(iter(folder.model.config.get("architectures") or []), "")
    model_class: Any = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
    options = {"device_map": torch.device("meta"), "output_loading_info": True, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder.path, local_files_only=True)
        _, loading_info = model_class.from_pretrained(folder.path, config=config, **options)
    except Exception as error:  # model classes raise anything
        yield Problem(f"{name} does not load the model: {summarize_error(error)}")
        return
    keys = {kind: sorted(map(str, loading_info[f"{kind}_keys"])) for kind in ("missing", "mismatched", "unexpected")}
    if not any(keys.values()):
        tensors = format_count(len(folder.model.checkpoint.entries), "tensor")
        yield Fact(LOADING_GROUP, name, f"loads {tensors}, none missing")
    for kind in ("missing", "mismatched"):
        if names := keys[kind]:
            tensors = format_count(len(names), f"{kind} tensor")
            yield Problem(f"{name} initializes {tensors} at random: {_format_names(names)}")
    if names := keys["unexpected"]:
        yield Remark(f"{name} does not use {format_count(len(names), 'tensor')}: {_format_names(names)}")


def check_transformers_4(folder: InspectedFolder) -> Iterator[Finding]:
    """Report what transformers 4 cannot read, or silently reads as something else."""
    remarks = [
        *_check_tokenizer_in_4(folder.load_json(TOKENIZER_CONFIG)),
        *_check_rope_in_4(folder.load_json("config.json")),
    ]
    config = folder.load_json("config.json")
    if config.get("dtype") and not config.get("torch_dtype"):
        remarks.append("before 4.56 ignores dtype and loads float32; set torch_dtype, too")
    yield Fact(LOADING_GROUP, "transformers 4", "see the notes" if remarks else "nothing in the files prevents loading")
    yield from (Remark(f"transformers 4 {remark}") for remark in remarks)


def _check_tokenizer_in_4(tokenizer_config: dict[str, Any]) -> Iterator[str]:
    if (name := tokenizer_config.get("tokenizer_class")) in _TRANSFORMERS_5_CLASSES:
        yield f"has no tokenizer_class {name} and fails; use {GENERIC_TOKENIZER_CLASS} in {TOKENIZER_CONFIG}"
    if isinstance(tokenizer_config.get("extra_special_tokens"), list):
        yield (
            f"expects extra_special_tokens to be a mapping and fails at the list in {TOKENIZER_CONFIG}; rename it to "
            "additional_special_tokens"
        )


def _check_rope_in_4(config: dict[str, Any]) -> Iterator[str]:
    """Check RoPE: version 5 writes `rope_parameters`; 4 reads `rope_theta` and `rope_scaling`, or their defaults."""
    text_config = get_language_config(config)
    rope = text_config.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    if any(isinstance(value, dict) for value in rope.values()):
        if "rope_theta" not in text_config:
            yield "ignores rope_parameters for each layer type; set rope_theta and rope_local_base_freq, too"
        return
    default, theta = _DEFAULT_ROPE_THETA.get(text_config.get("model_type", ""), 1e4), rope.get("rope_theta")
    if theta not in (None, default) and "rope_theta" not in text_config:
        yield f"uses rope_theta {default:,.0f}, rope_parameters say {theta:,.0f}; set rope_theta, too"
    if rope.get("rope_type", "default") != "default" and not text_config.get("rope_scaling"):
        yield f"ignores the scaling of rope_parameters ({rope['rope_type']}); set rope_scaling, too"


def _format_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
