"""Known licenses, and which is the strictest."""

from __future__ import annotations

import pytest

from lep.reporting.card.licenses import (
    LicenseRestriction,
    find_license,
    find_required_name_prefix,
    select_strictest_license,
)


@pytest.mark.parametrize(
    ("id_", "restriction", "text"),
    [
        ("apache-2.0", LicenseRestriction.NONE, ""),
        ("MIT", LicenseRestriction.NONE, ""),
        ("cc-by-4.0", LicenseRestriction.NONE, "name the author"),
        ("cc-by-sa-3.0", LicenseRestriction.SHARE_ALIKE, "under the same license"),
        ("cc-by-nc-4.0", LicenseRestriction.NON_COMMERCIAL, "forbids commercial use"),
        ("cc-by-nc-sa-4.0", LicenseRestriction.NON_COMMERCIAL, "under the same license"),
        ("cc-by-nd-4.0", LicenseRestriction.NO_DERIVATIVES, "forbids sharing derived works"),
        ("cc-by-nc-nd-4.0", LicenseRestriction.NO_DERIVATIVES, "forbids commercial use"),
        ("llama3", LicenseRestriction.CUSTOM_TERMS, "begin the model's name with “Llama 3”; "),
        ("llama3.1", LicenseRestriction.CUSTOM_TERMS, "display “Built with Llama”"),
        ("gemma", LicenseRestriction.CUSTOM_TERMS, "pass on its terms"),
        ("qwen-research", LicenseRestriction.NON_COMMERCIAL, "forbids commercial use"),
        ("deepseek", LicenseRestriction.CUSTOM_TERMS, "not known to lep: read them"),
    ],
)
def test_a_known_license_has_a_restriction_and_a_summary(id_: str, restriction: LicenseRestriction, text: str) -> None:
    known_license = find_license(id_)
    assert (known_license.id, known_license.restriction) == (id_.lower(), restriction)
    assert text in known_license.summary


def test_only_the_first_llama_licenses_restrict_the_use_of_outputs() -> None:
    obligation = "must not be used to improve models other than Llama"
    assert [id_ for id_ in ("llama2", "llama3", "llama3.1", "llama4") if obligation in find_license(id_).summary] == [
        "llama2",
        "llama3",
    ]


def test_links_are_never_invented() -> None:
    assert find_license("cc-by-nc-sa-4.0").link == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert (
        find_license("cc-by-sa").link == "https://creativecommons.org/licenses/"
        and not find_license("cc-by-sa").is_hub_id
    )
    assert find_license("llama3.1").link == "https://www.llama.com/llama3_1/license/"
    assert find_license("own").link is None and find_license("own", link="https://a.b/c").link == "https://a.b/c"


def test_the_strictest_license_is_selected_and_of_equals_the_first() -> None:
    order = ["mit", "cc-by-sa-4.0", "llama3", "cc-by-nc-4.0", "cc-by-nd-4.0"]
    for i, id_ in enumerate(order):
        assert select_strictest_license(map(find_license, [*order[:i][::-1], id_])) == find_license(id_)
    assert select_strictest_license(map(find_license, ["gemma", "llama3"])) == find_license("gemma")
    assert select_strictest_license([]) is None


def test_the_longest_prefix_satisfies_all_licenses() -> None:
    licenses = [find_license(id_) for id_ in ("llama3.1", "apache-2.0", "llama3")]
    assert find_required_name_prefix(licenses) == "Llama 3"
    assert find_required_name_prefix([find_license("mit")]) is None
