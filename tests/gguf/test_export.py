"""The folder that `lep export` writes: complete or absent, with the commands that run the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from lep.cli.main import main
from lep.errors import ArtifactError, CheckpointError, LepError, UsageError

from .families import YARN


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))


@pytest.fixture
def model(make_model: Callable, tokenizers: dict[str, Path], tmp_path: Path) -> Path:
    folder = make_model(tmp_path / "model", tokenizers["byte_level"])
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    edit(folder / "generation_config.json", eos_token_id=[2, 0], do_sample=True, temperature=0.6, top_k=None, top_p=0.9)
    return folder


def read_keys(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def test_hyperparameters(family: Callable, exported: Callable) -> None:
    keys = read_keys(exported(family("wide_heads")).file)
    expected = {
        "general.architecture": "llama",
        "general.name": "out",
        "llama.context_length": 256,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.block_count": 2,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 32,
        "llama.attention.value_length": 32,
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 10000.0,
        "general.file_type": 0,
    }
    assert {key: keys.get(key) for key in expected} == expected
    assert keys["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


def test_rope_scaling(family: Callable, exported: Callable) -> None:
    keys = read_keys(exported(family("qwen2")).file)
    scaling = {key.removeprefix("qwen2.rope.scaling."): keys[key] for key in keys if ".rope.scaling." in key}
    assert scaling == {"type": "yarn", "factor": YARN["factor"], "original_context_length": 64}


def test_unsupported_scaling_and_architecture_are_refused(model: Path, exported: Callable) -> None:
    edit(model / "config.json", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with pytest.raises(CheckpointError, match="rope_type dynamic: lep writes default, linear, yarn, llama3"):
        exported(model)
    edit(model / "config.json", model_type="gemma2", rope_parameters=None)
    with pytest.raises(CheckpointError, match=r"model_type gemma2: lep writes GGUF of llama.*convert_hf_to_gguf.py"):
        exported(model)


def test_a_sliding_window_is_a_remark(model: Path, exported: Callable) -> None:
    edit(model / "config.json", model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=128)
    assert any(
        "the model to the last 128 tokens (sliding window): outputs on longer texts differ" in remark
        for remark in exported(model).remarks
    )


def test_the_modelfile_has_template_and_parameters(model: Path, exported: Callable) -> None:
    result = exported(model, quantization="f16")
    text = (result.file.parent / "Modelfile").read_text()
    assert text.startswith('FROM ./out-f16.gguf\nTEMPLATE """{{ range $i, $turn := .Messages }}')
    lines = ['PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|endoftext|>"', "PARAMETER num_ctx 512"]
    assert text.endswith("\n".join([*lines, "PARAMETER temperature 0.6", "PARAMETER top_p 0.9"]) + "\n")
    assert sorted(file.name for file in result.file.parent.iterdir()) == ["Modelfile", "out-f16.gguf"]


def test_without_generation_settings_decoding_is_greedy(model: Path, exported: Callable) -> None:
    (model / "generation_config.json").unlink()
    edit(model / "config.json", eos_token_id=2)
    text = (exported(model).file.parent / "Modelfile").read_text()
    assert "PARAMETER temperature 0\n" in text and "top_p" not in text


def test_a_template_that_cannot_be_translated_is_a_remark(model: Path, exported: Callable) -> None:
    (model / "chat_template.jinja").write_text("{% for m in messages %}{{ loop.index ~ m['content'] }}{% endfor %}")
    result = exported(model)
    assert "TEMPLATE" not in (result.file.parent / "Modelfile").read_text()
    assert any("Modelfile has no TEMPLATE" in remark for remark in result.remarks)


def test_a_base_model_has_neither_template_nor_remark(model: Path, exported: Callable) -> None:
    (model / "chat_template.jinja").unlink()
    result = exported(model)
    assert "TEMPLATE" not in (result.file.parent / "Modelfile").read_text() and not result.remarks
    assert "--jinja" not in result.commands[0].command_line


def test_an_existing_folder_is_refused(model: Path, exported: Callable) -> None:
    exported(model)
    with pytest.raises(ArtifactError, match="already exists; choose another out="):
        exported(model)


@pytest.fixture
def quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`quantizer(script)`: put a shell script on the PATH as llama-quantize."""

    def install(text: str) -> None:
        program = tmp_path / "bin" / "llama-quantize"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return install


def test_llama_quantize_makes_smaller_files(model: Path, exported: Callable, quantizer: Callable) -> None:
    quantizer('[ "$3" = Q4_K_M ] && head -c 4 "$1" > "$2"')
    result = exported(model, quantization="q4_k_m")
    assert result.file.read_bytes() == b"GGUF" and result.size_bytes == 4
    assert sorted(file.name for file in result.file.parent.iterdir()) == ["Modelfile", "out-q4_k_m.gguf"]


def test_a_failing_quantizer_leaves_nothing(model: Path, exported: Callable, quantizer: Callable) -> None:
    quantizer("echo no such thing; exit 3")
    with pytest.raises(LepError, match="llama-quantize Q6_K failed with exit code 3:\nno such thing"):
        exported(model, quantization="q6_k")
    assert not list(model.parent.glob("out*"))


def test_a_missing_llama_quantize_is_an_error_with_a_remedy(
    model: Path, exported: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"llama-quantize is not on the PATH.*or use quantization=q8_0"):
        exported(model, quantization="q4_k_m")


def test_the_command_prints_the_result_or_every_error(model: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from lep.progress import set_listener

    assert main(["export", str(model), "format=gguf", "quantization=f16", f"out={tmp_path / 'russian'}"]) == 0
    set_listener(None)
    output = capsys.readouterr().out
    for words in ("russian-f16.gguf: f16, 0.00 GiB", "llama-server --model", "ollama create russian-f16", "vllm serve"):
        assert words in output
    assert main(["export", str(model), "quantisation=f16", "format=onnx"]) == 2
    error = capsys.readouterr().err
    for words in (
        "out: Field required",
        "quantisation: Extra inputs",
        "format: Input should be 'gguf'",
        "settings: model",
    ):
        assert words in error
