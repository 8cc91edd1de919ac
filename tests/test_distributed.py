"""The main process works, the others wait and get what it made; here they are played by one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

import pytest
from torch.distributed import HashStore

from lep import distributed as processes
from lep.errors import UsageError


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`become(number)`: go on as that one of three processes, which all share a store."""
    store = HashStore()
    monkeypatch.setattr(processes, "_store", lambda: store)

    def become(number: int) -> None:
        monkeypatch.setattr(processes, "_words", count())
        for name, value in {"RANK": number, "WORLD_SIZE": 3, "LOCAL_RANK": number}.items():
            monkeypatch.setenv(name, str(value))

    return become


def test_without_a_launcher_there_is_one_process_and_it_is_the_main_one(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some clusters set it, without starting any other process
    assert (processes.world(), processes.rank(), processes.is_main()) == (1, 0, True)
    assert processes.by_main(lambda: 5) == 5
    processes.join()
    processes.tell("nobody")
    processes.leave()


def test_the_main_process_works_and_the_others_get_what_it_made(become) -> None:
    become(0)
    assert processes.is_main()
    assert processes.by_main(lambda: {"made": [1, 2]}) == {"made": [1, 2]}
    processes.tell("a word")
    for number in (1, 2):
        become(number)
        assert not processes.is_main()
        assert processes.by_main(lambda: pytest.fail("another process worked")) == {"made": [1, 2]}
        assert processes.hear() == "a word"


def test_the_main_process_has_the_last_word(become) -> None:
    assert processes.agreed(0.5) == 0.5
    become(0)
    assert processes.agreed(0.25) == 0.25
    become(1)
    assert processes.agreed(0.75) == 0.25


def test_work_of_the_main_process_sees_no_other(become) -> None:
    become(0)
    seen = processes.by_main(lambda: (processes.world(), "LOCAL_RANK" in os.environ))
    assert seen == (1, False) and processes.world() == 3


def test_an_error_of_the_main_process_stays_its_own(become) -> None:
    become(0)
    with pytest.raises(ZeroDivisionError):
        processes.by_main(lambda: 1 // 0)
    assert processes.world() == 3


def test_others_wait_as_long_as_it_takes(become, monkeypatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            become(0)
            processes.tell("late")
            become(1)

    monkeypatch.setattr(processes.time, "sleep", nap)
    become(1)
    assert processes.hear() == "late" and len(naps) == 3


def test_another_process_lets_the_main_one_speak_first(become, monkeypatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", naps.append)
    for number, expected in ((0, 0), (1, 1)):
        become(number)
        with pytest.raises(UsageError), processes.main_first():
            raise UsageError("wrong everywhere")
        assert len(naps) == expected


def test_one_process_ends_by_its_exit_code_and_many_at_once(become, monkeypatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    assert processes.give_up(2) == 2 and not ended
    become(1)
    processes.give_up(2)
    assert ended == [2]


@pytest.mark.parametrize("name", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"])
def test_engines_that_do_not_know_of_tables_are_refused(name, monkeypatch) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(UsageError, match=f"{name}.*give pretrain.parallel=fsdp2"):
        processes.join()


def test_a_step_is_divided_among_all_processes(become) -> None:
    assert processes.micro_batches(batch_size=12, micro_batch_size=2) == 6
    become(1)
    assert processes.micro_batches(batch_size=12, micro_batch_size=2) == 2
    with pytest.raises(UsageError, match="micro_batch_size 4 × 3 processes does not divide batch_size 16; change one"):
        processes.micro_batches(batch_size=16, micro_batch_size=4)
