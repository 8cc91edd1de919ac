"""Export a model folder to a GGUF file for llama.cpp and Ollama, with a Modelfile beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from lep.config.export import ExportSettings, Quantization
from lep.errors import ArtifactError, CheckpointError
from lep.gguf.hyperparameters import add_hyperparameters, get_gguf_architecture, list_llama_cpp_differences
from lep.gguf.llama_quantize import find_llama_quantize, run_llama_quantize
from lep.gguf.modelfile import RunCommand, build_modelfile, build_run_commands
from lep.gguf.ollama_template import OllamaTemplate, infer_ollama_template
from lep.gguf.vocabulary import GgufVocabulary, build_gguf_vocabulary
from lep.gguf.weights import GgufTensor, build_gguf_tensors, load_tensor_data
from lep.io.atomic import PARTIAL_SUFFIX
from lep.io.model_folder import ModelFolder, check_embedding_rows, open_model
from lep.modeling.loading import load_tokenizer
from lep.progress import track_progress

MODELFILE = "Modelfile"

_QUANTIZATION_BY_DTYPE: dict[str, Quantization] = {"F64": "f32", "F32": "f32", "F16": "f16", "BF16": "bf16"}
"""The quantization that keeps matrices as they are, by their dtype in safetensors files."""

_GGUF_TYPES: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""Quantizations that are written here; llama-quantize makes the others from a file of one of these."""


@dataclass(frozen=True)
class ExportResult:
    """The exported file and the commands that run it."""

    file: Path
    size_bytes: int
    quantization: Quantization
    has_ollama_template: bool
    """The Modelfile has a TEMPLATE."""
    commands: tuple[RunCommand, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _ExportSource:
    """A model folder with everything read but the weights."""

    model: ModelFolder
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig

    @property
    def eos_token_ids(self) -> list[int]:
        """Ids at which generation stops."""
        ids = self.generation.eos_token_id
        return [ids] if isinstance(ids, int) else list(ids or ())

    @property
    def vocab_size(self) -> int:
        """Number of rows of the embedding matrices, padding included."""
        return len(self.model.embedding_matrix("embed"))

    @property
    def native_quantization(self) -> Quantization:
        """The quantization that keeps the matrices as they are."""
        return _QUANTIZATION_BY_DTYPE[self.model.checkpoint.get_float_info(self.model.embedding_names.embed).dtype]


def export(settings: ExportSettings) -> ExportResult:
    """Export a model folder to GGUF, with a Modelfile for Ollama.

    The output folder appears when everything is written; an error leaves nothing behind.

    Args:
        settings: The model folder, the output folder and the quantization.

    Returns:
        The exported file and the commands that run it.

    Raises:
        ArtifactError: `settings.out` already exists.
        CheckpointError: llama.cpp has no such architecture, tensor or RoPE scaling, or a tensor does not fit the
            quantization.
        TokenizerError: llama.cpp would tokenize texts differently.
        UsageError: The quantization needs llama-quantize, which is not on the PATH.
    """
    if settings.out.exists():
        raise ArtifactError(f"{settings.out} already exists; choose another out= or remove the folder")
    source = _read_source(settings.model)
    quantization = settings.quantization or source.native_quantization
    written = quantization if quantization in _GGUF_TYPES else source.native_quantization
    if quantization != written:
        find_llama_quantize()  # fail before any work
    matrix_type, file_type = _GGUF_TYPES[written]
    vocabulary = _build_vocabulary(source)
    architecture = get_gguf_architecture(source.config)
    tensors = build_gguf_tensors(source.model, source.config, architecture=architecture, matrix_type=matrix_type)
    name = f"{settings.out.name}-{quantization}.gguf"
    with _create_folder(settings.out) as folder:
        file = folder / (name if quantization == written else "unquantized.gguf")
        _write_gguf(file, source, vocabulary, tensors, title=settings.out.name, file_type=file_type)
        if quantization != written:
            run_llama_quantize(file, folder / name, quantization=quantization)
            file.unlink()
        template = _write_modelfile(folder, source, vocabulary, gguf_name=name)
        size = (folder / name).stat().st_size
    commands = build_run_commands(
        settings.out / name,
        settings.model,
        context_length=source.config.max_position_embeddings,
        has_chat_template=bool(vocabulary.chat_template),
    )
    return ExportResult(
        file=settings.out / name,
        size_bytes=size,
        quantization=quantization,
        has_ollama_template=template is not None,
        commands=commands,
        remarks=tuple(_list_remarks(source, vocabulary, template)),
    )


@contextmanager
def _create_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` when the block ends, and removed after an error."""
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _read_source(folder: Path) -> _ExportSource:
    model, tokenizer = open_model(folder), load_tokenizer(folder)
    check_embedding_rows(model, vocabulary_size=len(tokenizer))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        try:
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except OSError:  # no generation_config.json
            generation = GenerationConfig.from_model_config(config)
    except Exception as error:  # configuration classes raise anything
        raise CheckpointError(f"{folder}: transformers cannot read its configuration: {error}") from None
    return _ExportSource(model, config, tokenizer, generation)


def _build_vocabulary(source: _ExportSource) -> GgufVocabulary:
    return build_gguf_vocabulary(
        source.model.path,
        source.tokenizer,
        vocab_size=source.vocab_size,
        config=source.config.to_dict(),
        eos_token_ids=source.eos_token_ids,
    )


def _write_gguf(
    file: Path,
    source: _ExportSource,
    vocabulary: GgufVocabulary,
    tensors: Sequence[GgufTensor],
    *,
    title: str,
    file_type: LlamaFileType,
) -> None:
    """Write the GGUF file with one tensor in memory at a time."""
    writer = GGUFWriter(file, get_gguf_architecture(source.config))
    writer.add_type("model")
    writer.add_name(title)
    add_hyperparameters(writer, source.config, vocab_size=source.vocab_size)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    vocabulary.write(writer)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.size_bytes, raw_dtype=tensor.type
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with track_progress("writing", total=sum(tensor.size_bytes for tensor in tensors) / 1e6, unit="MB") as advance:
            for tensor in tensors:
                writer.write_tensor_data(load_tensor_data(source.model, tensor))
                advance(tensor.size_bytes / 1e6)
    finally:
        writer.close()


def _write_modelfile(
    folder: Path, source: _ExportSource, vocabulary: GgufVocabulary, *, gguf_name: str
) -> OllamaTemplate | None:
    """Write the Modelfile and return its chat template, where there is one."""
    template = None
    if vocabulary.chat_template:
        template = infer_ollama_template(source.tokenizer, adds_bos=vocabulary.add_special_tokens["bos"])
    text = build_modelfile(
        gguf_name,
        template=template,
        stop_strings=[vocabulary.tokens[id_] for id_ in source.eos_token_ids if id_ < len(vocabulary.tokens)],
        context_length=source.config.max_position_embeddings,
        generation=source.generation,
    )
    (folder / MODELFILE).write_text(text, encoding="utf-8")
    return template


def _list_remarks(source: _ExportSource, vocabulary: GgufVocabulary, template: OllamaTemplate | None) -> Iterator[str]:
    yield from vocabulary.remarks
    yield from list_llama_cpp_differences(source.config)
    if vocabulary.chat_template and not template:
        yield (
            f"{MODELFILE} has no TEMPLATE: the chat template depends on more than role and content, and Ollama will "
            "guess; llama-server --jinja runs the model's own template"
        )
    if template and "system" not in template.role_affixes:
        yield "the chat template has no separate system turn: Ollama drops system messages"
