"""The operations of `lep` as functions, on folders and on objects of transformers.

They run the stages of the command. A model is a folder (`str` or `Path`) or a pair `(model, tokenizer)` of objects;
a tokenizer is a folder, a file, or an object. Objects are saved to a temporary folder, so their present weights count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, TypeVar

from lep.config import InitializeSettings, PropagateSettings, RetokenizeSettings, Settings
from lep.errors import UsageError
from lep.io.artifact import build_artifact, read_manifest
from lep.pipeline import PipelineStep
from lep.registry import STAGES, parse_stage_result
from lep.results.embeddings import InitializationResult, PropagationResult
from lep.results.evaluation import ModelEvaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    ModelSource = str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]
    TokenizerSource = str | Path | PreTrainedTokenizerBase

_Result = TypeVar("_Result", InitializationResult, PropagationResult)


def extend_tokenizer(
    base: TokenizerSource, texts: str | Path | Iterable[str], *, new_tokens: int
) -> PreTrainedTokenizerBase:
    """Extend a tokenizer by tokens learned from texts; old ids, merges and segmentations stay. See `lep retokenize`.

    Args:
        base: The tokenizer of the base model: byte-level BPE, or SentencePiece BPE.
        texts: Documents, or the path of a corpus: a file of documents, a folder of such files, or one of `lep collect`.
        new_tokens: Number of tokens to add.

    Returns:
        The new tokenizer, checked to keep the bytes and old segmentation of every token and of the texts.

    Raises:
        LepError: The tokenizer has no merges to extend, the texts yield fewer tokens, or a check fails.

    Example:
        >>> import lep
        >>> tokenizer = lep.extend_tokenizer("models/base", texts, new_tokens=20)
        >>> len(tokenizer) - len(lep.read_tokenizer(Path("models/base")).vocabulary)
        20
    """
    from lep.modeling.loading import load_tokenizer

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = RetokenizeSettings(
            base=_to_folder(base, folder / "base"),
            corpus=_to_corpus(texts, folder / "corpus"),
            new_tokens=new_tokens,
        )
        (folder / "extended").mkdir()
        STAGES["retokenize"].run(settings, folder / "extended")
        return load_tokenizer(folder / "extended")


def initialize_model(
    base: ModelSource, tokenizer: TokenizerSource, out: str | Path, *, pad_to_multiple_of: int = 64
) -> InitializationResult:
    """Write the base model with embeddings for a new tokenizer: each new row is the mean of old rows (T·E).

    Args:
        base: The base model.
        tokenizer: The new tokenizer.
        out: The model folder to write; it must not exist, unless this very call made it.
        pad_to_multiple_of: The embeddings get a multiple of this many rows.

    Returns:
        How many rows were copied and composed, and their norms.

    Raises:
        LepError: A folder is no model or tokenizer, a new token cannot be segmented, or `out` is taken.

    Example:
        >>> import lep
        >>> tokenizer = lep.extend_tokenizer("models/base", texts, new_tokens=20)
        >>> lep.initialize_model("models/base", tokenizer, "models/initialized").composed_rows
        20
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = InitializeSettings(
            base=_to_folder(base, folder / "base"),
            tokenizer=_to_folder(tokenizer, folder / "tokenizer"),
            pad_to_multiple_of=pad_to_multiple_of,
        )
        return _build_model("initialize", settings, Path(out), InitializationResult)


def propagate_model(
    base: ModelSource,
    adapted: ModelSource,
    instruct: ModelSource,
    out: str | Path,
    *,
    method: Literal["swap", "overlap", "conversion", "auto"] = "conversion",
    ridge: float = 0.0,
    layers_scale: float | None = None,
    device: str = "cpu",
) -> PropagationResult:
    """Write the instruct model with the vocabulary and the propagated embeddings of the adapted model.

    Args:
        base: The base model, old vocabulary.
        adapted: The base model with the new vocabulary, after training.
        instruct: A model tuned from the base, old vocabulary.
        out: The model folder to write; it must not exist, unless this very call made it.
        method: `swap`, `overlap`, `conversion`, or `auto`: for each matrix the one with the smallest held-out error.
        ridge: λ of the penalty λ‖P − I‖² in the fit.
        layers_scale: Factor of what training changed in the adapted model's layers, which is added to the instruct
            model's; `None`: the layers must be the base's.
        device: Where rows are multiplied and P is solved.

    Returns:
        How well each projection fits, and what was written.

    Raises:
        LepError: A folder is no model, the models do not share a base and vocabulary, or `out` is taken.
        ValueError: `method` is unknown, or another argument is out of its range.

    Example:
        >>> import lep
        >>> models = "models/base", "models/adapted", "models/instruct"
        >>> result = lep.propagate_model(*models, "models/propagated", method="conversion")
        >>> result.method, sorted(result.fits)
        ('conversion', ['embed', 'head'])
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = PropagateSettings(
            base=_to_folder(base, folder / "base"),
            adapted=_to_folder(adapted, folder / "adapted"),
            instruct=_to_folder(instruct, folder / "instruct"),
            method=method,
            ridge=ridge,
            layers_scale=layers_scale,
            device=device,
        )
        return _build_model("propagate", settings, Path(out), PropagationResult)


def evaluate_texts(
    model: ModelSource,
    texts: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    sequence_length: int = 512,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
) -> ModelEvaluation:
    """Compute characters per token and bits per byte of texts, which can be compared between vocabularies.

    Args:
        model: A causal language model; objects are used as they are.
        texts: Documents, or documents by language.
        sequence_length: Length of the windows in which documents are predicted, in tokens.
        dtype: Precision in which a folder is loaded.

    Returns:
        Both measures by language; documents without one are `texts`.

    Raises:
        LepError: The folder is no model, or its tokenizer cannot encode a text.
        UsageError: There are no texts.

    Example:
        >>> import lep
        >>> evaluation = lep.evaluate_texts("models/base", {"ru": texts}, dtype="float32")
        >>> sorted(evaluation.bits_per_byte), evaluation.bits_per_byte["ru"] > 0
        (['ru'], True)
    """
    from lep.evaluation.bits_per_byte import measure_texts
    from lep.modeling.loading import load_model, load_tokenizer

    by_name = texts if isinstance(texts, Mapping) else {"texts": texts}
    if not any(by_name.values()):
        raise UsageError("evaluate_texts: there are no texts; give at least one document")
    if isinstance(model, str | Path):
        loaded, tokenizer, name = load_model(Path(model), dtype=dtype), load_tokenizer(Path(model)), str(model)
    else:
        loaded, tokenizer, name = *model, type(model[0]).__name__
    was_training = loaded.training
    try:
        return measure_texts(loaded.eval(), tokenizer, by_name, model_name=name, sequence_length=sequence_length)
    finally:
        loaded.train(was_training)


def _to_folder(source: ModelSource | TokenizerSource, folder: Path) -> Path:
    """Return the path of a source; objects are saved in `folder`."""
    if isinstance(source, str | Path):
        return Path(source)
    for item in source if isinstance(source, tuple) else (source,):
        item.save_pretrained(folder)
    return folder


def _to_corpus(texts: str | Path | Iterable[str], folder: Path) -> Path:
    """Return the path of a corpus; documents are saved in `folder`, all of them for learning and for the checks."""
    from lep.data.records import write_jsonl

    if isinstance(texts, str | Path):
        return Path(texts)
    folder.mkdir()
    write_jsonl(folder / "texts.train.jsonl", ({"text": text} for text in texts))
    (folder / "texts.heldout.jsonl").symlink_to("texts.train.jsonl")
    return folder


def _build_model(stage: str, settings: Settings, out: Path, result_type: type[_Result]) -> _Result:
    step = PipelineStep(stage, STAGES[stage], settings, out)
    build_artifact(step.plan, lambda folder: step.stage.run(settings, folder))
    result = parse_stage_result(read_manifest(out).result, stage=stage, path=out)
    assert isinstance(result, result_type)
    return result
