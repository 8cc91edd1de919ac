"""Shell completion, asked of the real command as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lep.registry import STAGES


@pytest.fixture
def offered(tmp_path: Path):
    """The words offered after a line, in a folder that holds `models/base` and `run.yaml`."""
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "run.yaml").touch()

    def ask(line: str) -> set[str]:
        output = tmp_path / "offered"
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(output),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        subprocess.run([sys.executable, "-m", "lep.cli.main"], env=environment, cwd=tmp_path, check=True)
        words = output.read_text().split("\n")
        output.unlink()
        return {word.strip() for word in words}

    return ask


def test_verbs_stages_and_flags(offered) -> None:
    assert {"run", "explain", *STAGES} <= offered("lep ")
    assert offered("lep pro") == {"propagate"}
    assert offered("lep run run.yaml --from cal") == {"calibrate"}
    assert offered("lep propagate --dry") == {"--dry-run"}
    assert offered("lep explain pre") == {"pretrain"}


def test_settings_and_their_values(offered) -> None:
    assert offered("lep pretrain le") == {"learning_rate="}
    assert offered("lep retokenize kind=") == {"kind=extended", "kind=optimized", "kind=bpe", "kind=unigram"}
    assert offered("lep run run.yaml pretrain.tens") == {"pretrain.tensorboard="}
    assert offered("lep run run.yaml pretrain.tensorboard=t") == {"pretrain.tensorboard=true"}


def test_files(offered) -> None:
    assert offered("lep run ru") == {"run.yaml"}
    assert offered("lep propagate base=models/") == {"base=models/base/"}
    assert offered("lep inspect models/") == {"models/base/"}
