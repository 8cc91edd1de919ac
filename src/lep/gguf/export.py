"""A model folder → a GGUF file for llama.cpp and Ollama, with a Modelfile beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from lep.config.export import Export, Quantization
from lep.errors import ArtifactError, CheckpointError
from lep.gguf.hyperparameters import add_hyperparameters, architecture, differences
from lep.gguf.llama_quantize import program, quantize
from lep.gguf.modelfile import Command, commands, modelfile
from lep.gguf.ollama_template import dialogue
from lep.gguf.vocabulary import GgufVocabulary, gguf_vocabulary
from lep.gguf.weights import GgufTensor, data, gguf_tensors
from lep.io.model_folder import ModelFolder, check_rows, open_model
from lep.modeling.loading import load_tokenizer
from lep.progress import progress

MODELFILE = "Modelfile"

_OWN: dict[str, Quantization] = {"F64": "f32", "F32": "f32", "F16": "f16", "BF16": "bf16"}
"""What keeps a model's matrices as they are, by their dtype."""

_FILES: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""What is written here; the others are made of such a file."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how to run it."""

    file: Path
    bytes: int
    quantization: Quantization
    chats: bool
    """Whether the Modelfile says how conversations are written."""
    commands: tuple[Command, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A model folder, read but for its weights."""

    model: ModelFolder
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig

    @property
    def ends(self) -> list[int]:
        """Ids at which generation stops."""
        ids = self.generation.eos_token_id
        return [ids] if isinstance(ids, int) else list(ids or ())

    @property
    def rows(self) -> int:
        """Of its tables."""
        return len(self.model.rows("embed"))


def export(settings: Export) -> Exported:
    """Write a GGUF file and a Modelfile into a new folder; when anything goes wrong there is no folder.

    Raises:
        ArtifactError: the folder is there.
        CheckpointError, TokenizerError: the model is none that llama.cpp would compute, or read, exactly so.
        UsageError: the quantization needs a program that is not there.
    """
    if settings.out.exists():
        raise ArtifactError(f"{settings.out}: is there already; give another out=, or remove it")
    source = _read(settings.model)
    own = _OWN[source.model.checkpoint.floats(source.model.names.embed).dtype]
    wanted = settings.quantization or own
    written = wanted if wanted in _FILES else own
    if wanted != written:
        program()
    vocabulary = gguf_vocabulary(
        settings.model, source.tokenizer, rows=source.rows, config=source.config.to_dict(), ends=source.ends
    )
    tensors = gguf_tensors(
        source.model, source.config, architecture=architecture(source.config), type_=_FILES[written][0]
    )
    name, partial = f"{settings.out.name}-{wanted}.gguf", settings.out.with_name(settings.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        whole = partial / (name if wanted == written else "whole.gguf")
        _write(whole, source, vocabulary, tensors, title=settings.out.name, type_=_FILES[written][1])
        if wanted != written:
            quantize(whole, partial / name, quantization=wanted)
            whole.unlink()
        found = _beside(partial, source, vocabulary, settings, name=name, quantization=wanted)
        partial.rename(settings.out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return found


def _read(folder: Path) -> _Source:
    model, tokenizer = open_model(folder), load_tokenizer(folder)
    check_rows(model, tokens=len(tokenizer))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        try:
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except OSError:  # the folder has none
            generation = GenerationConfig.from_model_config(config)
    except Exception as error:  # whatever a configuration leads its class into
        raise CheckpointError(f"{folder}: transformers cannot read its configuration: {error}") from None
    return _Source(model, config, tokenizer, generation)


def _write(
    file: Path,
    source: _Source,
    vocabulary: GgufVocabulary,
    tensors: Sequence[GgufTensor],
    *,
    title: str,
    type_: LlamaFileType,
) -> None:
    """The whole file, one tensor in memory at a time."""
    writer = GGUFWriter(file, architecture(source.config))
    writer.add_type("model")
    writer.add_name(title)
    add_hyperparameters(writer, source.config, rows=source.rows)
    writer.add_file_type(type_)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    vocabulary.write(writer)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with progress("writing", total=sum(tensor.bytes for tensor in tensors) / 1e6, unit="MB") as advance:
            for tensor in tensors:
                writer.write_tensor_data(data(source.model, tensor))
                advance(tensor.bytes / 1e6)
    finally:
        writer.close()


def _beside(
    folder: Path,
    source: _Source,
    vocabulary: GgufVocabulary,
    settings: Export,
    *,
    name: str,
    quantization: Quantization,
) -> Exported:
    """Write the Modelfile, and tell about all."""
    chat = dialogue(source.tokenizer, begins=vocabulary.around["bos"]) if vocabulary.template else None
    stops = [vocabulary.tokens[id_] for id_ in source.ends if id_ < len(vocabulary.tokens)]
    context = source.config.max_position_embeddings
    text = modelfile(name, chat=chat, stops=stops, context=context, generation=source.generation)
    (folder / MODELFILE).write_text(text, encoding="utf-8")
    remarks = [*vocabulary.remarks, *differences(source.config)]
    if vocabulary.template and not chat:
        remarks.append(
            f"{MODELFILE} has no TEMPLATE: the model's turns depend on more than role and content, and Ollama guesses; "
            "llama-server --jinja runs the model's own template"
        )
    if chat and "system" not in chat.around:
        remarks.append("the chat template has no system turn of its own: Ollama leaves a system message out")
    file = settings.out / name
    return Exported(
        file=file,
        bytes=(folder / name).stat().st_size,
        quantization=quantization,
        chats=chat is not None,
        commands=commands(file, settings.model, context=context, chats=bool(vocabulary.template)),
        remarks=tuple(remarks),
    )
