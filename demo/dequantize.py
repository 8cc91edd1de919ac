"""Convert a SmolLM2 GGUF file to a Hugging Face folder that transformers 4 and 5 load alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from lep.errors import CheckpointError

GGUF_PRE_TOKENIZER = "smollm"  # the name that the GGUF file must have for PRE_TOKENIZER
PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}
SPECIAL_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def dequantize_gguf(gguf: Path, out: Path) -> None:
    """Write bfloat16 weights, configuration, tokenizer and chat template of a SmolLM2 GGUF file into a folder.

    Args:
        gguf: The GGUF file.
        out: An empty folder.

    Raises:
        CheckpointError: The file has another pre-tokenizer than SmolLM2, or no chat template.
    """
    fields = GGUFReader(gguf).fields
    pre_tokenizer = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "nothing"
    if pre_tokenizer != GGUF_PRE_TOKENIZER:
        raise CheckpointError(
            f"{gguf}: tokenizer.ggml.pre is {pre_tokenizer!r}, expected {GGUF_PRE_TOKENIZER!r}; use the package that "
            "demo/packages.txt pins"
        )
    if "tokenizer.chat_template" not in fields:
        raise CheckpointError(f"{gguf}: no chat template; use the package that demo/packages.txt pins")
    (out / "chat_template.jinja").write_text(fields["tokenizer.chat_template"].contents(), encoding="utf-8")
    _write_tokenizer(gguf, out)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _write_weights(model, out / "model.safetensors")
    _write_config(model, out)


def _write_tokenizer(gguf: Path, out: Path) -> None:
    """Write the tokenizer with its original pre-tokenizer, which a GGUF file only names."""
    converted = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer = json.loads(converted.backend_tokenizer.to_str())
    tokenizer |= {"pre_tokenizer": PRE_TOKENIZER, "post_processor": None}
    _write_json(out / "tokenizer.json", tokenizer)
    _write_json(out / "special_tokens_map.json", SPECIAL_TOKENS)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192}
    _write_json(
        out / "tokenizer_config.json",
        config | {"add_prefix_space": False, "clean_up_tokenization_spaces": False} | SPECIAL_TOKENS,
    )


def _write_weights(model: PreTrainedModel, path: Path) -> None:
    """Write every tensor once; the output embeddings are tied to the input embeddings and are left out."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _write_config(model: PreTrainedModel, out: Path) -> None:
    """Write old and new names of the keys that transformers 5 renamed: version 4 would silently use its defaults."""
    config = model.config.to_diff_dict()
    for key in ("_name_or_path", "_model_name_or_path", "quantization_config", "transformers_version"):
        config.pop(key, None)
    theta = config["rope_parameters"]["rope_theta"]
    both_names = {"rope_theta": theta, "rope_scaling": None, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    epsilon = float(f"{config['rms_norm_eps']:.6g}")  # 1e-05, stored as float32 in GGUF
    config |= both_names | SPECIAL_IDS | {"rms_norm_eps": epsilon, "architectures": ["LlamaForCausalLM"]}
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", {"_from_model_config": True} | SPECIAL_IDS)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
