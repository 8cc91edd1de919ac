"""What `pip install lep` leaves out: the packages of an extra, and whether they are there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from lep.errors import UsageError


def need(extra: str, *, what: str) -> None:
    """Nothing, when the packages of an extra are installed. None of them is imported.

    Args:
        extra: `train`, `eval`, …: a key of `[project.optional-dependencies]` in pyproject.toml.
        what: what needs them: the subject of the message.

    Raises:
        UsageError: with all packages that are missing or too old, and the command that installs them; or `lep` itself
            was installed before it had this extra.
    """
    packages = _packages(extra)
    if not packages:
        raise UsageError(f"{what} needs the extra {extra}, which the installed lep does not have: install lep again")
    if lacking := [f"{found.name}{found.specifier}" for found in packages if not _is_there(found)]:
        raise UsageError(f"{what} needs {', '.join(lacking)}: pip install 'lep[{extra}]'")


def _packages(extra: str) -> list[Requirement]:
    """By the metadata of the installed `lep`."""
    every = map(Requirement, requires("lep") or ())
    return [found for found in every if found.marker and found.marker.evaluate({"extra": extra})]


def _is_there(package: Requirement) -> bool:
    try:
        return package.specifier.contains(version(package.name), prereleases=True)
    except PackageNotFoundError:
        return False
