"""What is known of licences: facts with their sources, no advice. Of others nothing is said but their names.

A link is where the text itself stands; what a licence asks is said in the words of that text, shortened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Limit(IntEnum):
    """What a licence limits, the stricter the higher."""

    NONE = 0
    SAME_LICENCE = 1
    OWN_TERMS = 2
    NO_COMMERCE = 3
    NO_DERIVATIVES = 4


LIMITS = {
    Limit.NONE: "",
    Limit.SAME_LICENCE: "what is derived from it is shared under the same licence",
    Limit.OWN_TERMS: "has terms of use of its own",
    Limit.NO_COMMERCE: "forbids commercial use",
    Limit.NO_DERIVATIVES: "forbids to share what is derived from it",
}
"""In words."""


@dataclass(frozen=True)
class Licence:
    """A licence, by its identifier on the hub or, where the hub has none, its `license_name`."""

    id: str
    limit: Limit
    link: str | None = None
    duties: tuple[str, ...] = ()
    """What who shares a derived model has to do."""
    notice: str | None = None
    """To be displayed with a derived model."""
    beginning: str | None = None
    """What a derived model's name has to begin with."""
    on_hub: bool = True
    """Whether the hub knows the identifier; others are `other` there, with name and link."""

    @property
    def words(self) -> str:
        """What it limits and asks."""
        return "; ".join(part for part in (LIMITS[self.limit], *self.duties) if part)


def _llama(id_: str, version: str, *, beginning: str | None, notice: str | None, link: str) -> Licence:
    duties = ["pass on a copy of it and its notice", "use as its acceptable-use policy allows"]
    duties += [f"display “{notice}”"] if notice else []
    duties += [f"begin the model's name with “{beginning}”"] if beginning else []
    duties += ["more than 700 million monthly users need a licence from Meta"]
    if version in ("2", "3"):
        duties += ["its answers may not improve models other than Llama"]
    return Licence(id_, Limit.OWN_TERMS, link, tuple(duties), notice, beginning)


_BUILT = "Built with Llama"
_GNU = "https://www.gnu.org/licenses"
_OPEN = "https://opensource.org/license"
_GEMMA = ("pass on its terms, with its use restrictions", "add its notice as a file", "say that files were changed")

_TABLE = (
    Licence("apache-2.0", Limit.NONE, "https://www.apache.org/licenses/LICENSE-2.0"),
    Licence("mit", Limit.NONE, f"{_OPEN}/mit"),
    Licence("bsd-2-clause", Limit.NONE, f"{_OPEN}/bsd-2-clause"),
    Licence("bsd-3-clause", Limit.NONE, f"{_OPEN}/bsd-3-clause"),
    Licence("cc0-1.0", Limit.NONE, "https://creativecommons.org/publicdomain/zero/1.0/"),
    Licence("unlicense", Limit.NONE, f"{_OPEN}/unlicense"),
    Licence("odc-by", Limit.NONE, "https://opendatacommons.org/licenses/by/1-0/"),
    Licence("odbl", Limit.SAME_LICENCE, "https://opendatacommons.org/licenses/odbl/1-0/"),
    Licence("gpl-3.0", Limit.SAME_LICENCE, f"{_GNU}/gpl-3.0.html"),
    Licence("agpl-3.0", Limit.SAME_LICENCE, f"{_GNU}/agpl-3.0.html"),
    Licence("lgpl-3.0", Limit.SAME_LICENCE, f"{_GNU}/lgpl-3.0.html"),
    Licence("gfdl", Limit.SAME_LICENCE, f"{_GNU}/fdl-1.3.html"),
    _llama("llama2", "2", beginning=None, notice=None, link="https://ai.meta.com/llama/license/"),
    _llama(
        "llama3",
        "3",
        beginning="Llama 3",
        notice="Built with Meta Llama 3",
        link="https://www.llama.com/llama3/license/",
    ),
    *(
        _llama(
            f"llama{version}",
            version,
            beginning="Llama",
            notice=_BUILT,
            link=f"https://www.llama.com/llama{version.replace('.', '_')}/license/",
        )
        for version in ("3.1", "3.2", "3.3", "4")
    ),
    Licence("gemma", Limit.OWN_TERMS, "https://ai.google.dev/gemma/terms", _GEMMA),
    Licence(
        "qwen-research",
        Limit.NO_COMMERCE,
        "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE",
        ("pass on a copy of it and its notice",),
        on_hub=False,
    ),
    Licence("mnpl", Limit.NO_COMMERCE, "https://mistral.ai/licenses/MNPL-0.1.md", on_hub=False),
    Licence("mrl", Limit.NO_COMMERCE, "https://mistral.ai/licenses/MRL-0.1.md", on_hub=False),
)
_KNOWN = {licence.id: licence for licence in _TABLE}

_CREATIVE_COMMONS = re.compile(r"cc-by((?:-nc)?)((?:-sa|-nd)?)(?:-(\d\.\d))?")


def licence(id_: str, *, link: str | None = None, on_hub: bool = False) -> Licence:
    """What is known of a licence; of one that is not known: that it has terms to be read.

    Args:
        id_: as a card states it.
        link: where its text stands, by that card.
        on_hub: whether the card states it as one of the hub's identifiers.
    """
    id_ = id_.strip().lower()
    if found := _KNOWN.get(id_):
        return found
    if match := _CREATIVE_COMMONS.fullmatch(id_):
        return _creative_commons(id_, *match.groups())
    return Licence(id_, Limit.OWN_TERMS, link, ("not known to lep: read them",), on_hub=on_hub)


def _creative_commons(id_: str, commerce: str, changes: str, version: str | None) -> Licence:
    """Their names say what they limit: nc, sa, nd. The hub knows them with their versions alone."""
    limit = Limit.NO_COMMERCE if commerce else Limit.SAME_LICENCE if changes == "-sa" else Limit.NONE
    duties = (LIMITS[Limit.SAME_LICENCE],) if commerce and changes == "-sa" else ()
    if changes == "-nd":
        limit, duties = Limit.NO_DERIVATIVES, (LIMITS[Limit.NO_COMMERCE],) if commerce else ()
    link = "https://creativecommons.org/licenses/" + (f"by{commerce}{changes}/{version}/" if version else "")
    return Licence(id_, limit, link, (*duties, "name who made it"), on_hub=bool(version))


def strictest(licences: Iterable[Licence]) -> Licence | None:
    """The one that limits most, the first of several; none of none."""
    return max(licences, key=lambda one: one.limit, default=None)
