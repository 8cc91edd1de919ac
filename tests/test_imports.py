"""Heavy libraries are imported lazily: `import lep` and `lep --help` load none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lep

HEAVY = ("torch", "transformers", "tokenizers", "datasets", "trl", "peft", "accelerate", "numpy", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import lep",
        "import lep.config, lep.errors, lep.progress",
        "from lep.cli.main import main; main(['--help'])",
        "from lep.cli.main import main; main(['--version'])",
        "from lep.cli.main import main; main(['explain'])",
        "from lep.cli.main import main; main(['run', 'no-such-file.yaml'])",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    script = f"""
import sys
try:
    {code}
except SystemExit:
    pass
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_every_public_name_is_there_and_nothing_else_is() -> None:
    assert set(lep.__all__) == {*lep._MODULES, "__version__"}
    for name, module in lep._MODULES.items():
        assert getattr(lep, name).__module__ == module
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lep.nothing  # noqa: B018
