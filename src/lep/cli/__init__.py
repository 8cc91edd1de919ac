# PYTHON_ARGCOMPLETE_OK
"""The command line. It needs the extra `cli`; the library does not."""

from __future__ import annotations

import sys


def run() -> int:
    """Run the command `lep`, or name the extra that it lacks; return the exit code."""
    try:
        from lep.cli.main import main
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("argcomplete", "rich"):
            raise
        sys.stderr.write(f"lep: the command needs {package}, which is not installed: pip install 'lep[cli]'\n")
        return 2
    return main()
