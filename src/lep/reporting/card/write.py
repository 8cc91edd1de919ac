"""A model's card: manifests, parents' cards and licences → README.md, as the Hugging Face hub expects it.

No path of the machine goes into it: models are called by their names on the hub, else by their folders' names.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from lep.errors import ArtifactError
from lep.io.artifact import Manifest, fingerprint
from lep.io.model_card import CARD, keep_parents, legal_files
from lep.progress import note
from lep.reporting.card.evaluation import cell, evaluated
from lep.reporting.card.licenses import Licence, strictest
from lep.reporting.card.provenance import Lineage, trace
from lep.reporting.card.sections import languages, sections, warnings

_BEGIN, _END = "<!-- numbers of an evaluation -->", "<!-- end of the numbers -->"
_NOT_YET = "Not evaluated yet."


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write a model's README.md, with the cards and licences of its parents in `parents/`.

    What licences forbid or ask of its name is told as notes.

    Args:
        folder: a model's, finished but for its manifest.
        manifest: what will be written there.

    Raises:
        ArtifactError: a manifest before it cannot be read.
    """
    lineage = trace(folder, manifest)
    text = _rendered(folder, lineage)
    keep_parents([parent.folder for parent in lineage.parents], folder)
    (folder / CARD).write_text(text, encoding="utf-8")
    for words in warnings(lineage):
        _tell(words)


def add_numbers(model: Path, evaluation: Path) -> None:
    """Put the numbers of an evaluation into their place on a model's card; what people wrote around it stays.

    Args:
        model: folder of a model.
        evaluation: folder of an artifact of `evaluate` that measured it.

    Raises:
        ArtifactError: the evaluation is of other models, or is none; the card has no place for numbers.
    """
    file = model / CARD
    begin, found, rest = file.read_text(encoding="utf-8").partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not (found and ended):
        raise ArtifactError(
            f"{file}: has no place for numbers; put the lines {_BEGIN} and {_END} where they are to stand"
        )
    numbers = evaluated(evaluation, identity=fingerprint(model), model=model)
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{begin}{_BEGIN}\n\n{numbers}\n\n{_END}{after}", encoding="utf-8")
    fresh.replace(file)


def required_beginning(text: str) -> str | None:
    """What a licence on a card wants a published model's name to begin with; none: nothing."""
    found = re.findall(r"begin the model's name with “(.+?)”", text)
    return max(found, key=len, default=None)


@cache
def _tell(words: str) -> None:
    """A note, once in a walk: every model on it has the same parents."""
    note(words)


def _rendered(folder: Path, lineage: Lineage) -> str:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    template = environment.from_string(
        (resources.files("lep.reporting.card") / "card.md.jinja").read_text(encoding="utf-8")
    )
    body = template.render(
        evaluation=f"{_BEGIN}\n\n{_NOT_YET}\n\n{_END}",
        kept=any(legal_files(parent.folder) for parent in lineage.parents),
        **sections(folder, lineage),
    )
    body = re.sub(r"\n{3,}", "\n\n", body)
    return f"---\n{_front_matter(lineage).to_yaml()}\n---\n\n{body}\n"


def _front_matter(lineage: Lineage) -> ModelCardData:
    """What the hub reads."""
    weights = [parent for parent in lineage.parents if parent.is_weights]
    bases = list(dict.fromkeys(name for parent in weights for name in parent.hub_names))
    licence = _licence(lineage)
    known = licence is None or licence.on_hub
    pipelines = [parent.card.pipeline for parent in weights if parent.card and parent.card.pipeline]
    more = {"base_model_relation": "merge" if len(bases) > 1 else "finetune"} if bases else {}
    return ModelCardData(
        base_model=bases or None,
        language=languages(lineage) or None,
        license=licence.id if licence and known else "unknown" if known else "other",
        license_name=licence.id if licence and not known else None,
        license_link=(licence.link or CARD) if licence and not known else None,
        library_name="transformers",
        pipeline_tag=next(iter(pipelines), "text-generation"),
        datasets=[text.dataset for text in lineage.texts if text.dataset] or None,
        tags=["lep"],
        **more,  # pyright: ignore[reportArgumentType]
    )


def _licence(lineage: Lineage) -> Licence | None:
    """The strictest of models and texts; none when that of a model whose weights went into it is not known."""
    if any(parent.is_weights and parent.licence is None for parent in lineage.parents):
        return None
    return strictest(one.licence for one in (*lineage.parents, *lineage.texts) if one.licence)
