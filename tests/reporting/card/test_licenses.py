"""Licences are told as they are known, and the strictest is found."""

from __future__ import annotations

import pytest

from lep.reporting.card.licenses import Limit, licence, strictest


@pytest.mark.parametrize(
    ("id_", "limit", "says"),
    [
        ("apache-2.0", Limit.NONE, ""),
        ("MIT", Limit.NONE, ""),
        ("cc-by-4.0", Limit.NONE, "name who made it"),
        ("cc-by-sa-3.0", Limit.SAME_LICENCE, "under the same licence"),
        ("cc-by-nc-4.0", Limit.NO_COMMERCE, "forbids commercial use"),
        ("cc-by-nc-sa-4.0", Limit.NO_COMMERCE, "under the same licence"),
        ("cc-by-nd-4.0", Limit.NO_DERIVATIVES, "forbids to share what is derived"),
        ("cc-by-nc-nd-4.0", Limit.NO_DERIVATIVES, "forbids commercial use"),
        ("llama3", Limit.OWN_TERMS, "begin the model's name with “Llama 3”; "),
        ("llama3.1", Limit.OWN_TERMS, "display “Built with Llama”"),
        ("gemma", Limit.OWN_TERMS, "pass on its terms"),
        ("qwen-research", Limit.NO_COMMERCE, "forbids commercial use"),
        ("deepseek", Limit.OWN_TERMS, "not known to lep: read them"),
    ],
)
def test_what_is_known_is_said(id_: str, limit: Limit, says: str) -> None:
    found = licence(id_)
    assert (found.id, found.limit) == (id_.lower(), limit)
    assert says in found.words


def test_the_answers_of_the_first_llamas_alone_are_kept_from_other_models() -> None:
    words = "may not improve models other than Llama"
    assert [id_ for id_ in ("llama2", "llama3", "llama3.1", "llama4") if words in licence(id_).words] == [
        "llama2",
        "llama3",
    ]


def test_where_the_text_stands_is_never_invented() -> None:
    assert licence("cc-by-nc-sa-4.0").link == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert licence("cc-by-sa").link == "https://creativecommons.org/licenses/" and not licence("cc-by-sa").on_hub
    assert licence("llama3.1").link == "https://www.llama.com/llama3_1/license/"
    assert licence("own").link is None and licence("own", link="https://a.b/c").link == "https://a.b/c"


def test_the_strictest_goes_first_and_of_equals_the_first() -> None:
    order = ["mit", "cc-by-sa-4.0", "llama3", "cc-by-nc-4.0", "cc-by-nd-4.0"]
    for i, id_ in enumerate(order):
        assert strictest(map(licence, [*order[:i][::-1], id_])) == licence(id_)
    assert strictest(map(licence, ["gemma", "llama3"])) == licence("gemma")
    assert strictest([]) is None
