"""The launch files of docs/launch do what docs/cluster.md says, as far as this can be tested without a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from lep import pipeline
from lep.cli.main import _build_parser
from lep.config import PretrainSettings

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "docs/launch"
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))
OVERRIDES = ("recipes/demo-long.yaml", "batch_size=64", "micro_batch_size=2")

SHOW = '#!/bin/sh\nprintf \'%s\\n\' "$0" "$@"\n'
STUBS = {
    "torchrun": SHOW,
    "accelerate": SHOW,
    "srun": '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "scontrol": "#!/bin/sh\nprintf 'node7\\nnode8\\n'\n",
}
"""Stand-ins for the programs: they print how they were called; what srun would start is started once."""


@pytest.fixture
def called(tmp_path: Path):
    """`called(script)`: the launcher's name and arguments when the script is run in a job of two nodes."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "42"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **slurm}

    def run(script: str) -> list[str]:
        line = ["sh", f"docs/launch/{script}", *OVERRIDES]
        output = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        program, *arguments = output.splitlines()
        return [Path(program).name, *arguments]

    return run


def test_every_launch_file_is_in_the_docs() -> None:
    assert SCRIPTS == ["accelerate.sh", "fsdp2.sh", "slurm.sh", "torchrun.sh"]
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    assert all(f"(launch/{path.name})" in page for path in LAUNCH.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_launcher_accepts_its_options_and_the_command_parses(script, called, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = called(script)
    parser = launch_command_parser() if program == "accelerate" else get_args_parser()
    options = parser.parse_args(arguments[1:] if program == "accelerate" else arguments)
    assert options.module and options.training_script == "lep.cli.main"
    command = _build_parser().parse_args(options.training_script_args)
    assert command.stage == "pretrain" and command.overrides[: len(OVERRIDES)] == list(OVERRIDES)
    steps = pipeline.load_recipe(Path(command.overrides[0]), [f"pretrain.{word}" for word in command.overrides[1:]])
    settings = next(step.settings for step in steps if step.stage.name == "pretrain")
    assert isinstance(settings, PretrainSettings) and settings.batch_size == 64
    assert settings.parallel == ("fsdp2" if script in ("fsdp2.sh", "slurm.sh") else "ddp")


def test_the_first_node_hosts_the_rendezvous(called) -> None:
    arguments = called("slurm.sh")
    for option, value in {"--nnodes": "2", "--rdzv-endpoint": "node7:29500", "--rdzv-id": "42"}.items():
        assert arguments[arguments.index(option) + 1] == value


def test_accelerate_accepts_its_file_and_does_not_shard() -> None:
    file = LAUNCH / "accelerate.yaml"
    config = ClusterConfig.from_yaml_file(str(file))
    assert config.distributed_type.value == "MULTI_GPU" and config.num_processes == 8
    assert not any("fsdp" in key or "deepspeed" in key for key in yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shells_parse_them(script) -> None:
    for shell in ("sh", "bash"):
        assert subprocess.run([shell, "-n", LAUNCH / script]).returncode == 0
