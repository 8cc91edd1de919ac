"""A published model in a GGUF file → a plain Hugging Face folder that transformers 4 and 5 read the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from lep.errors import CheckpointError

TRAINED_SPLIT = "smollm"  # what the file must name: the split that PRE_TOKENIZER writes out
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


def write_published(gguf: Path, out: Path) -> None:
    """Dequantise a SmolLM2 GGUF file into `out`: bfloat16 weights, configuration, tokenizer, chat template.

    Args:
        gguf: The file; its folder is where transformers looks for it.
        out: An empty folder.

    Raises:
        CheckpointError: The file's tokenizer is not split as SmolLM2's is, or it has no chat template.
    """
    fields = GGUFReader(gguf).fields
    split = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "nothing"
    if split != TRAINED_SPLIT:
        raise CheckpointError(
            f"{gguf}: tokenizer.ggml.pre is {split!r}, expected {TRAINED_SPLIT!r}: the pre-tokenizer that the GGUF "
            "format leaves out cannot be restored for it; use the pinned package of demo/packages.txt."
        )
    if "tokenizer.chat_template" not in fields:
        raise CheckpointError(f"{gguf}: no chat template; use the pinned package of demo/packages.txt.")
    (out / "chat_template.jinja").write_text(fields["tokenizer.chat_template"].contents(), encoding="utf-8")
    _write_tokenizer(gguf, out)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _write_weights(model, out / "model.safetensors")
    _write_configuration(model, out)


def _write_tokenizer(gguf: Path, out: Path) -> None:
    """The fast tokenizer as the publisher trained it; digits stand alone again."""
    converted = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer = json.loads(converted.backend_tokenizer.to_str())
    tokenizer |= {"pre_tokenizer": PRE_TOKENIZER, "post_processor": None}
    _write_json(out / "tokenizer.json", tokenizer)
    _write_json(out / "special_tokens_map.json", SPECIAL_TOKENS)
    configuration = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192}
    _write_json(
        out / "tokenizer_config.json",
        configuration | {"add_prefix_space": False, "clean_up_tokenization_spaces": False} | SPECIAL_TOKENS,
    )


def _write_weights(model: PreTrainedModel, path: Path) -> None:
    """Every tensor once: the output table is the input table's and is left out."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _write_configuration(model: PreTrainedModel, out: Path) -> None:
    """Both spellings of what transformers 5 renamed; without them 4 would take its defaults in silence."""
    loaded = model.config.to_diff_dict()
    for origin in ("_name_or_path", "_model_name_or_path", "quantization_config", "transformers_version"):
        loaded.pop(origin, None)
    theta = loaded["rope_parameters"]["rope_theta"]
    spellings = {"rope_theta": theta, "rope_scaling": None, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    epsilon = float(f"{loaded['rms_norm_eps']:.6g}")  # 1e-05, which GGUF keeps in float32
    configuration = loaded | spellings | SPECIAL_IDS | {"rms_norm_eps": epsilon, "architectures": ["LlamaForCausalLM"]}
    _write_json(out / "config.json", configuration)
    _write_json(out / "generation_config.json", {"_from_model_config": True} | SPECIAL_IDS)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
