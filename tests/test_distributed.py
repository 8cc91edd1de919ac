"""The main process works, the others wait and get its result; here one process plays all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

import pytest
from torch.distributed import HashStore

from lep import distributed
from lep.errors import UsageError


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`become(rank)`: continue as this one of three processes, which share a store."""
    store = HashStore()
    monkeypatch.setattr(distributed, "_get_store", lambda: store)

    def become(rank: int) -> None:
        monkeypatch.setattr(distributed, "_message_numbers", count())
        for name, value in {"RANK": rank, "WORLD_SIZE": 3, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))

    return become


def test_without_a_launcher_there_is_one_process_and_it_is_the_main_one(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some clusters set it, without starting any other process
    assert (distributed.get_world_size(), distributed.get_rank(), distributed.is_main_process()) == (1, 0, True)
    assert distributed.run_on_main(lambda: 5) == 5
    distributed.init_process_group()
    distributed.broadcast("no receiver")
    distributed.shutdown()


def test_the_main_process_works_and_the_others_get_its_result(become) -> None:
    become(0)
    assert distributed.is_main_process()
    assert distributed.run_on_main(lambda: {"values": [1, 2]}) == {"values": [1, 2]}
    distributed.broadcast("a message")
    for number in (1, 2):
        become(number)
        assert not distributed.is_main_process()
        assert distributed.run_on_main(lambda: pytest.fail("another process ran the function")) == {"values": [1, 2]}
        assert distributed.receive() == "a message"


def test_the_value_of_the_main_process_is_broadcast(become) -> None:
    assert distributed.broadcast_from_main(0.5) == 0.5
    become(0)
    assert distributed.broadcast_from_main(0.25) == 0.25
    become(1)
    assert distributed.broadcast_from_main(0.75) == 0.25


def test_the_launcher_environment_is_hidden_while_the_main_process_works(become) -> None:
    become(0)
    environment = distributed.run_on_main(lambda: (distributed.get_world_size(), "LOCAL_RANK" in os.environ))
    assert environment == (1, False) and distributed.get_world_size() == 3


def test_an_error_of_the_main_process_restores_the_environment(become) -> None:
    become(0)
    with pytest.raises(ZeroDivisionError):
        distributed.run_on_main(lambda: 1 // 0)
    assert distributed.get_world_size() == 3


def test_others_poll_until_the_message_arrives(become, monkeypatch) -> None:
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            become(0)
            distributed.broadcast("late")
            become(1)

    monkeypatch.setattr(distributed.time, "sleep", sleep)
    become(1)
    assert distributed.receive() == "late" and len(sleeps) == 3


def test_other_processes_delay_their_errors(become, monkeypatch) -> None:
    sleeps: list[float] = []
    monkeypatch.setattr(distributed.time, "sleep", sleeps.append)
    for number, expected in ((0, 0), (1, 1)):
        become(number)
        with pytest.raises(UsageError), distributed.delay_worker_errors():
            raise UsageError("wrong everywhere")
        assert len(sleeps) == expected


def test_abort_exits_at_once_in_a_distributed_run(become, monkeypatch) -> None:
    exit_codes: list[int] = []
    monkeypatch.setattr(os, "_exit", exit_codes.append)
    assert distributed.abort(2) == 2 and not exit_codes
    become(1)
    distributed.abort(2)
    assert exit_codes == [2]


@pytest.mark.parametrize("name", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"])
def test_unsupported_sharding_engines_are_refused(name, monkeypatch) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(UsageError, match=f"{name}.*give pretrain.parallel=fsdp2"):
        distributed.init_process_group()


def test_gradient_accumulation_divides_a_step_among_processes(become) -> None:
    assert distributed.gradient_accumulation_steps(batch_size=12, micro_batch_size=2) == 6
    become(1)
    assert distributed.gradient_accumulation_steps(batch_size=12, micro_batch_size=2) == 2
    with pytest.raises(UsageError, match="micro_batch_size 4 × 3 processes does not divide batch_size 16; change one"):
        distributed.gradient_accumulation_steps(batch_size=16, micro_batch_size=4)
