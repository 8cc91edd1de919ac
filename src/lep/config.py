"""Every knob of every room: one frozen model a room, documented field by field. Imports no torch.

Every `Path` in a room's settings is an input: it names a file, a folder, or, in a recipe, an earlier room
(`adapted: pretrain`). Where a room writes is not a setting; the command gives it (`out=`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
Method = Literal["swap", "overlap", "conversion"]
VocabularyKind = Literal["extended", "optimized", "bpe", "unigram"]
Dtype = Literal["float32", "bfloat16"]


class Settings(BaseModel):
    """The rules that all settings share: frozen, unknown keys are errors, docstrings are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Source(Settings):
    """Text of one language."""

    files: list[Path]
    """Files of documents: .jsonl (also .gz, .xz), .txt (documents parted by blank lines) or .parquet."""
    field: str = "text"
    """The key (jsonl) or the column (parquet) that holds a document's text."""
    script: str | None = None
    """Unicode script that most letters must be of, as in `Cyrillic` or `Latin`; none: any."""
    maximum_characters: Count | None = None
    """Stop reading after about this many characters of kept text; none: read all."""


class Collect(Settings):
    """Raw text → corpus: clean, deduplicated, split into train and held-out."""

    sources: dict[str, Source]
    """One source a language; the key (`ru`, `en`) names the language in every later room."""
    minimum_characters: Count = 40
    """Shorter documents are dropped."""
    script_share: Share = 0.7
    """Share of a document's letters that must be of its source's script."""
    heldout_share: Share = 0.02
    """Share of documents kept away from all training, chosen by a hash of their text."""
    seed: int = 0
    """Changes which documents are held out."""


class Advise(Settings):
    """Base + text → how large a new vocabulary should be, what each size brings and costs, or that none is worth it."""

    base: Path
    """Folder of the base model; of its tokenizer alone, where there is no model yet."""
    corpus: Path
    """Text to learn from: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: Literal["extended", "optimized"] = "extended"
    """`extended`: the base's merges, continued; `optimized`: the base cut to what the text uses, then continued."""
    kept_tokens: Count | None = None
    """Tokens to which `optimized` cuts the base, special ones included; none: half of them."""
    mixture: dict[str, Positive] | None = None
    """Share of the text by language, in any unit: `{ru: 9, en: 1}`; others are only shown; none: all text as it is."""
    largest: Count = 64_000
    """Sizes are looked at from 1,000 new tokens on, each twice the one before, up to this or what the text yields."""
    tokens: Count | None = None
    """Tokens that `pretrain` will train on, of text like this; none: the corpus, read once."""
    width: Count | None = None
    """Where base is only a tokenizer: numbers in a row of the model's tables."""
    tied: bool | None = None
    """Where base is only a tokenizer: whether one table is both embed and head."""
    parameters: Positive | None = None
    """Where base is only a tokenizer: all parameters of the model, its tables included."""

    @model_validator(mode="after")
    def _agree(self) -> Advise:
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if len({value is None for value in (self.width, self.tied, self.parameters)}) > 1:
            raise ValueError("width, tied and parameters describe a model together; give all three, or none")
        return self


class Retokenize(Settings):
    """Base tokenizer + text → tokenizer for the language, with proofs."""

    base: Path
    """Folder of the base model or of its tokenizer."""
    corpus: Path
    """Text to learn from: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: VocabularyKind = "extended"
    """`extended`: the base's merges, continued; `optimized`: the base cut to what the text uses, then continued; `bpe`,
    `unigram`: a new vocabulary in the base's place."""
    vocabulary_size: Count | None = None
    """Tokens in all, special ones included; this, `new_tokens` or `symbols_per_token` says how large it becomes."""
    new_tokens: Count | None = None
    """Tokens that are added to the base, or to what is kept of it (extended, optimized)."""
    symbols_per_token: Positive | None = None
    """The smallest vocabulary that reaches this on the mixture's held-out text (not unigram)."""
    kept_tokens: Count | None = None
    """Tokens to which `optimized` cuts the base, special ones included; none: half of them, as in the paper."""
    mixture: dict[str, Positive] | None = None
    """Share of the text by language, in any unit: `{ru: 9, en: 1}`; others teach nothing; none: all text as it is."""
    pieces: Path | None = None
    """A tokenizer whose tokens `extended` takes, instead of learning its own."""

    @model_validator(mode="after")
    def _agree(self) -> Retokenize:
        sizes = [name for name in ("vocabulary_size", "new_tokens", "symbols_per_token") if getattr(self, name)]
        if len(sizes) > 1 or not (sizes or self.pieces):
            raise ValueError(f"give one of vocabulary_size, new_tokens, symbols_per_token; found {sizes or 'none'}")
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if self.pieces and self.kind != "extended":
            raise ValueError("pieces belongs to kind=extended")
        if self.new_tokens and self.kind in ("bpe", "unigram"):
            raise ValueError(f"kind={self.kind} adds nothing to the base; give vocabulary_size instead of new_tokens")
        if self.symbols_per_token and self.kind == "unigram":
            raise ValueError("kind=unigram must know its size; give vocabulary_size instead of symbols_per_token")
        return self


class Initialize(Settings):
    """Base model + tokenizer → model with new tables, each new row the mean of its pieces' rows (T·E)."""

    base: Path
    """Folder of the base model."""
    tokenizer: Path
    """A tokenizer made by `retokenize`, or any folder with a tokenizer."""
    pad_to_multiple: Count = 64
    """The tables get a multiple of so many rows, which suits the hardware; the tokenizer is left as it is."""


class Pretrain(Settings):
    """Initialized model + corpus → adapted model: only the tables learn."""

    model: Path
    """A model made by `initialize`."""
    corpus: Path
    """A corpus made by `collect`."""
    mixture: dict[str, Positive]
    """Share of training tokens by language, in any unit: `{ru: 9, en: 1}`."""
    tokens: Count
    """How many tokens to train on; when the corpus is shorter, it is read again in another order."""
    block: Annotated[int, Field(ge=2)] = 1024
    """Tokens in a training sample."""
    batch_size: Count = 256
    """Samples in an optimizer step."""
    micro_batch_size: Count = 4
    """Samples in a forward pass; must divide `batch_size`."""
    lr: Positive = 2e-4
    """Peak learning rate of the new tokens' rows."""
    lr_old_rows: NonNegative | None = None
    """Peak learning rate of the rows that the base model had; 0 freezes them; none: as `lr`."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up before the cosine."""
    weight_decay: NonNegative = 0.1
    """AdamW's weight decay, on the rows that learn."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    epsilon: Positive = 1e-5
    """AdamW's ε."""
    dtype: Dtype = "bfloat16"
    """Precision of the frozen layers and of activations; the rows that learn are kept in float32."""
    evaluations: Count = 4
    """How often, evenly over the run, held-out bits per byte are measured and a checkpoint is saved."""
    evaluation_characters: Count = 20_000
    """Characters of held-out text a language in those measurements."""
    seed: int = 0
    """Order of the samples."""


class Tune(Settings):
    """Model + instruction data → tuned model: LoRA on the linear layers, whole tables, merged; loss on answers only."""

    model: Path
    """Folder of the model to tune; its tokenizer must have a chat template."""
    data: Path
    """Conversations as .jsonl rows with `prompt` and `completion`, each a list of messages."""
    epochs: Positive = 1.0
    """Passes over the data."""
    lora_rank: Count = 32
    """Rank r of the adapters."""
    lora_alpha: Count = 16
    """α of the adapters: their product is scaled by α / r."""
    lr: Positive = 5e-5
    """Peak learning rate, linear warm-up over a twentieth of the steps, then cosine."""
    batch_size: Count = 128
    """Conversations in an optimizer step."""
    micro_batch_size: Count = 8
    """Conversations in a forward pass; must divide `batch_size`."""
    weight_decay: NonNegative = 0.05
    """AdamW's weight decay."""
    maximum_length: Count = 4096
    """A conversation of more tokens is an error, not a cut answer."""
    dtype: Dtype = "bfloat16"
    """Precision of the frozen weights and of activations; what learns is kept in float32."""
    seed: int = 0
    """Order of the conversations."""


class Propagate(Settings):
    """Base, adapted and instruct model → propagated model: the instruct model with the new vocabulary."""

    base: Path
    """The base model, old vocabulary."""
    adapted: Path
    """The base model with the new vocabulary, after continued pre-training."""
    instruct: Path
    """The model to carry the new vocabulary into; fine-tuned from the same base, old vocabulary."""
    method: Method = "conversion"
    """`swap`: tables as they are; `overlap`: fitted on shared tokens; `conversion`: fitted on all new tokens."""
    ridge: NonNegative = 0.0
    """λ of the penalty λ‖P − I‖² in the fit; 0: plain least squares."""


class Evaluate(Settings):
    """Models + held-out text and items → numbers."""

    models: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], Path]
    """What to measure, by the name that tables show."""
    corpus: Path
    """A corpus made by `collect`; its held-out half is read."""
    skills: Path | None = None
    """Items as .jsonl rows with `skill`, `prompt` and `completion`; right is what equals the completion."""
    characters: Count = 60_000
    """Characters of held-out text a language for symbols per token and bits per byte."""
    block: Count = 512
    """Tokens a model reads at once when bits per byte are measured."""
    speed_language: str | None = None
    """Language of the held-out openings that models continue when speed is measured; none: speed is not measured."""
    speed_rounds: Count = 3
    """How often each model's speed is measured, in turn with the others; the median counts."""
    dtype: Dtype = "bfloat16"
    """Precision of the weights and activations."""


class Report(Settings):
    """An evaluation and all that led to it → one page."""

    evaluation: Path
    """An evaluation made by `evaluate`; the rooms before it are found through its manifest."""
    title: str = "LEP"
    """Heading of the page."""


ROOMS: dict[str, type[Settings]] = {
    "collect": Collect,
    "advise": Advise,
    "retokenize": Retokenize,
    "initialize": Initialize,
    "pretrain": Pretrain,
    "tune": Tune,
    "propagate": Propagate,
    "evaluate": Evaluate,
    "report": Report,
}


def paths(settings: Settings) -> dict[str, Path]:
    """Every input of a room, by its place in the settings: `base`, `models.adapted`, `sources.ru.files.0`."""
    return {name: value for name, value in flatten(settings.model_dump()).items() if isinstance(value, Path)}


S = TypeVar("S", bound=Settings)


def with_paths(settings: S, change: Callable[[Path], Path]) -> S:
    """The same settings with every input changed."""

    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        return change(value) if isinstance(value, Path) else value

    return type(settings).model_validate(walk(settings.model_dump()))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b.0` → value."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat |= flatten({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
