"""What runs an exported model: an Ollama Modelfile, and the commands of Ollama, llama.cpp and vLLM.

Source: docs/modelfile.md of Ollama.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig

from lep.gguf.ollama_template import Dialogue

CONTEXT = 8192
"""Tokens of context, at most: a server takes memory for all of them at once. Raise it where there is more."""

_DRAWN = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
"""How transformers and Ollama call what is asked of sampling."""


@dataclass(frozen=True)
class Command:
    """How to run the model in one program."""

    program: str
    line: str


def modelfile(
    file: str, *, chat: Dialogue | None, stops: Sequence[str], context: int, generation: GenerationConfig
) -> str:
    """The text of a Modelfile beside a GGUF file.

    Args:
        file: the name of the file.
        chat: how it writes conversations; none: Ollama is left to guess.
        stops: texts at which an answer ends.
        context: tokens of context that the model has.
        generation: how the model's makers draw tokens; greedily where they do not say otherwise, as transformers does.
    """
    lines = [f"FROM ./{file}"]
    if chat:
        lines.append(f'TEMPLATE """{chat.template()}"""')
    lines += [f'PARAMETER stop "{text}"' for text in stops if '"' not in text]
    lines.append(f"PARAMETER num_ctx {min(context, CONTEXT)}")
    if generation.do_sample:
        given = {theirs: getattr(generation, ours) for ours, theirs in _DRAWN.items()}
        lines += [f"PARAMETER {name} {value}" for name, value in given.items() if value is not None]
    else:
        lines.append("PARAMETER temperature 0")
    if generation.repetition_penalty not in (None, 1.0):
        lines.append(f"PARAMETER repeat_penalty {generation.repetition_penalty}")
    return "\n".join(lines) + "\n"


def commands(file: Path, model: Path, *, context: int, chats: bool) -> tuple[Command, ...]:
    """How to run the file, and the folder that it was made from."""
    length = str(min(context, CONTEXT))
    server = ["llama-server", "--model", str(file), "--ctx-size", length, *(["--jinja"] if chats else [])]
    create = ["ollama", "create", file.stem.lower(), "--file", str(file.parent / "Modelfile")]
    vllm = ["vllm", "serve", str(model), "--max-model-len", length]
    return (
        Command("llama.cpp", shlex.join(server)),
        Command("Ollama", shlex.join(create) + " && " + shlex.join(["ollama", "run", file.stem.lower()])),
        Command("vLLM, the folder itself", shlex.join(vllm)),
    )
