"""Write an Ollama Modelfile, and the commands that run an exported model in llama.cpp, Ollama and vLLM.

Source: docs/modelfile.md of Ollama.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig

from lep.gguf.ollama_template import OllamaTemplate

MAX_CONTEXT_LENGTH = 8192
"""Largest context, in tokens, that the Modelfile and the commands ask for: servers allocate the whole KV cache."""

_SAMPLING_PARAMETERS = ("temperature", "top_p", "top_k")
"""Sampling parameters that have one name in transformers and Ollama."""


@dataclass(frozen=True)
class RunCommand:
    """How to run the model in one program."""

    program: str
    command_line: str


def build_modelfile(
    gguf_name: str,
    *,
    template: OllamaTemplate | None,
    stop_strings: Sequence[str],
    context_length: int,
    generation: GenerationConfig,
) -> str:
    """Build the text of a Modelfile.

    Args:
        gguf_name: Name of the GGUF file in the same folder.
        template: The chat template; None leaves the choice to Ollama.
        stop_strings: Texts that end an answer.
        context_length: Tokens of context that the model supports.
        generation: The model's generation settings. Decoding is greedy unless they enable sampling, as in
            transformers.

    Returns:
        The text of the file.
    """
    lines = [f"FROM ./{gguf_name}"]
    if template:
        lines.append(f'TEMPLATE """{template.to_go_template()}"""')
    lines += [f'PARAMETER stop "{text}"' for text in stop_strings if '"' not in text]
    lines.append(f"PARAMETER num_ctx {min(context_length, MAX_CONTEXT_LENGTH)}")
    if generation.do_sample:
        values = {name: getattr(generation, name) for name in _SAMPLING_PARAMETERS}
        lines += [f"PARAMETER {name} {value}" for name, value in values.items() if value is not None]
    else:
        lines.append("PARAMETER temperature 0")
    if generation.repetition_penalty not in (None, 1.0):
        lines.append(f"PARAMETER repeat_penalty {generation.repetition_penalty}")
    return "\n".join(lines) + "\n"


def build_run_commands(
    gguf_file: Path, model_folder: Path, *, context_length: int, has_chat_template: bool
) -> tuple[RunCommand, ...]:
    """Build the commands that run the GGUF file and the model folder.

    Args:
        gguf_file: The exported file, with its Modelfile beside it.
        model_folder: The Hugging Face folder that it was made from.
        context_length: Tokens of context that the model supports.
        has_chat_template: The model has a chat template.

    Returns:
        One command each for llama.cpp, Ollama and vLLM.
    """
    length = str(min(context_length, MAX_CONTEXT_LENGTH))
    jinja = ["--jinja"] if has_chat_template else []
    llama_server = ["llama-server", "--model", str(gguf_file), "--ctx-size", length, *jinja]
    name = gguf_file.stem.lower()
    ollama_create = ["ollama", "create", name, "--file", str(gguf_file.parent / "Modelfile")]
    vllm_serve = ["vllm", "serve", str(model_folder), "--max-model-len", length]
    return (
        RunCommand("llama.cpp", shlex.join(llama_server)),
        RunCommand("Ollama", f"{shlex.join(ollama_create)} && {shlex.join(['ollama', 'run', name])}"),
        RunCommand("vLLM, the folder itself", shlex.join(vllm_serve)),
    )
