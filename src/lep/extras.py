"""Optional dependencies: the packages of an extra, and whether they are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from lep.errors import UsageError


def require_extra(extra: str, *, required_by: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: `train`, `eval`, …: a key of `[project.optional-dependencies]` in pyproject.toml.
        required_by: What needs them: the subject of the message.

    Raises:
        UsageError: Packages are missing or too old; the message names all of them and the command that installs them.
            Or `lep` itself was installed before it had this extra.
    """
    requirements = _extra_requirements(extra)
    if not requirements:
        raise UsageError(
            f"{required_by} needs the extra {extra}, which the installed lep does not have: install lep again"
        )
    if missing := [f"{item.name}{item.specifier}" for item in requirements if not _is_installed(item)]:
        raise UsageError(f"{required_by} needs {', '.join(missing)}: pip install 'lep[{extra}]'")


def _extra_requirements(extra: str) -> list[Requirement]:
    """Return the requirements of an extra, from the metadata of the installed `lep`."""
    requirements = map(Requirement, requires("lep") or ())
    return [item for item in requirements if item.marker and item.marker.evaluate({"extra": extra})]


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
