"""Known licenses of models and texts: what they restrict and what they demand of who shares a derived model.

These are facts with their sources, not advice. A link leads to the text of the license; obligations are its words,
shortened. Only the name is known of a license that is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class LicenseRestriction(IntEnum):
    """What a license restricts; a larger value is stricter."""

    NONE = 0
    SHARE_ALIKE = 1
    CUSTOM_TERMS = 2
    NON_COMMERCIAL = 3
    NO_DERIVATIVES = 4


RESTRICTION_TEXTS = {
    LicenseRestriction.NONE: "",
    LicenseRestriction.SHARE_ALIKE: "derived works must be shared under the same license",
    LicenseRestriction.CUSTOM_TERMS: "has its own terms of use",
    LicenseRestriction.NON_COMMERCIAL: "forbids commercial use",
    LicenseRestriction.NO_DERIVATIVES: "forbids sharing derived works",
}
"""A clause for each restriction."""


@dataclass(frozen=True)
class License:
    """A license, by its identifier on the hub or, if the hub has none, its `license_name`."""

    id: str
    restriction: LicenseRestriction
    link: str | None = None
    obligations: tuple[str, ...] = ()
    """What whoever shares a derived model must do."""
    notice: str | None = None
    """Text to display with a derived model."""
    name_prefix: str | None = None
    """What the name of a derived model must begin with."""
    is_hub_id: bool = True
    """Whether the hub knows the identifier; otherwise the card states `other`, with name and link."""

    @property
    def summary(self) -> str:
        """Restriction and obligations in one line."""
        return "; ".join(part for part in (RESTRICTION_TEXTS[self.restriction], *self.obligations) if part)


def _llama_license(id_: str, version: str, *, name_prefix: str | None, notice: str | None, link: str) -> License:
    obligations = ["pass on a copy of it and its notice", "follow its acceptable-use policy"]
    obligations += [f"display “{notice}”"] if notice else []
    obligations += [f"begin the model's name with “{name_prefix}”"] if name_prefix else []
    obligations += ["more than 700 million monthly users need a license from Meta"]
    if version in ("2", "3"):
        obligations += ["its outputs must not be used to improve models other than Llama"]
    return License(id_, LicenseRestriction.CUSTOM_TERMS, link, tuple(obligations), notice, name_prefix)


_BUILT_WITH_LLAMA = "Built with Llama"
_GNU_URL = "https://www.gnu.org/licenses"
_OSI_URL = "https://opensource.org/license"
_GEMMA_OBLIGATIONS = (
    "pass on its terms, with its use restrictions",
    "add its notice as a file",
    "state that files were changed",
)

_LICENSES = (
    License("apache-2.0", LicenseRestriction.NONE, "https://www.apache.org/licenses/LICENSE-2.0"),
    License("mit", LicenseRestriction.NONE, f"{_OSI_URL}/mit"),
    License("bsd-2-clause", LicenseRestriction.NONE, f"{_OSI_URL}/bsd-2-clause"),
    License("bsd-3-clause", LicenseRestriction.NONE, f"{_OSI_URL}/bsd-3-clause"),
    License("cc0-1.0", LicenseRestriction.NONE, "https://creativecommons.org/publicdomain/zero/1.0/"),
    License("unlicense", LicenseRestriction.NONE, f"{_OSI_URL}/unlicense"),
    License("odc-by", LicenseRestriction.NONE, "https://opendatacommons.org/licenses/by/1-0/"),
    License("odbl", LicenseRestriction.SHARE_ALIKE, "https://opendatacommons.org/licenses/odbl/1-0/"),
    License("gpl-3.0", LicenseRestriction.SHARE_ALIKE, f"{_GNU_URL}/gpl-3.0.html"),
    License("agpl-3.0", LicenseRestriction.SHARE_ALIKE, f"{_GNU_URL}/agpl-3.0.html"),
    License("lgpl-3.0", LicenseRestriction.SHARE_ALIKE, f"{_GNU_URL}/lgpl-3.0.html"),
    License("gfdl", LicenseRestriction.SHARE_ALIKE, f"{_GNU_URL}/fdl-1.3.html"),
    _llama_license("llama2", "2", name_prefix=None, notice=None, link="https://ai.meta.com/llama/license/"),
    _llama_license(
        "llama3",
        "3",
        name_prefix="Llama 3",
        notice="Built with Meta Llama 3",
        link="https://www.llama.com/llama3/license/",
    ),
    *(
        _llama_license(
            f"llama{version}",
            version,
            name_prefix="Llama",
            notice=_BUILT_WITH_LLAMA,
            link=f"https://www.llama.com/llama{version.replace('.', '_')}/license/",
        )
        for version in ("3.1", "3.2", "3.3", "4")
    ),
    License("gemma", LicenseRestriction.CUSTOM_TERMS, "https://ai.google.dev/gemma/terms", _GEMMA_OBLIGATIONS),
    License(
        "qwen-research",
        LicenseRestriction.NON_COMMERCIAL,
        "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE",
        ("pass on a copy of it and its notice",),
        is_hub_id=False,
    ),
    License("mnpl", LicenseRestriction.NON_COMMERCIAL, "https://mistral.ai/licenses/MNPL-0.1.md", is_hub_id=False),
    License("mrl", LicenseRestriction.NON_COMMERCIAL, "https://mistral.ai/licenses/MRL-0.1.md", is_hub_id=False),
)
_LICENSES_BY_ID = {license_.id: license_ for license_ in _LICENSES}

_CREATIVE_COMMONS_ID = re.compile(r"cc-by((?:-nc)?)((?:-sa|-nd)?)(?:-(\d\.\d))?")


def find_license(id_: str, *, link: str | None = None, is_hub_id: bool = False) -> License:
    """Return what is known of a license.

    Args:
        id_: Identifier or name, as a card states it.
        link: Where the card says that its text is.
        is_hub_id: Whether the card states it as an identifier of the hub.

    Returns:
        The license; one with custom terms if it is not known.

    Example:
        >>> find_license("cc-by-nc-4.0").summary
        'forbids commercial use; name the author'
    """
    id_ = id_.strip().lower()
    if license_ := _LICENSES_BY_ID.get(id_):
        return license_
    if match := _CREATIVE_COMMONS_ID.fullmatch(id_):
        return _creative_commons_license(id_, *match.groups())
    return License(id_, LicenseRestriction.CUSTOM_TERMS, link, ("not known to lep: read them",), is_hub_id=is_hub_id)


def select_strictest_license(licenses: Iterable[License]) -> License | None:
    """Return the license with the strictest restriction, the first of several; None if there is none."""
    return max(licenses, key=lambda license_: license_.restriction, default=None)


def find_required_name_prefix(licenses: Iterable[License]) -> str | None:
    """Return the longest prefix that licenses demand of a model's name; None if there is none."""
    return max((license_.name_prefix for license_ in licenses if license_.name_prefix), key=len, default=None)


def _creative_commons_license(
    id_: str, noncommercial_suffix: str, derivatives_suffix: str, version: str | None
) -> License:
    """Derive the restrictions from the suffixes nc, sa and nd. The hub knows these licenses only with a version."""
    restrictions = []
    if derivatives_suffix == "-nd":
        restrictions.append(LicenseRestriction.NO_DERIVATIVES)
    if noncommercial_suffix:
        restrictions.append(LicenseRestriction.NON_COMMERCIAL)
    if derivatives_suffix == "-sa":
        restrictions.append(LicenseRestriction.SHARE_ALIKE)
    strictest, *others = restrictions or [LicenseRestriction.NONE]
    path = f"by{noncommercial_suffix}{derivatives_suffix}/{version}/" if version else ""
    obligations = (*(RESTRICTION_TEXTS[other] for other in others), "name the author")
    link = f"https://creativecommons.org/licenses/{path}"
    return License(id_, strictest, link, obligations, is_hub_id=bool(version))
