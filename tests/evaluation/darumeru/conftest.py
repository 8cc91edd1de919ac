"""The tiny data sets, and models that are perfect or guess; lm-evaluation-harness is imported once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lep.evaluation.darumeru import TASK_FILES

DATA = Path(__file__).parent / "data"
RunTasks = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def data() -> str:
    """A few rows of each data set, in the columns of the real one, written for these tests."""
    return str(DATA)


@pytest.fixture(scope="session")
def harness() -> ModuleType:
    import lm_eval.api.model
    import lm_eval.evaluator
    import lm_eval.tasks

    lm_eval.evaluator.add_env_info = lambda results: None  # takes seconds
    return lm_eval


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small byte-level tokenizer trained on the tiny data sets."""
    folder = tmp_path_factory.mktemp("tokenizer")
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    lines = [line for file in DATA.glob("*/*.jsonl") for line in file.read_text(encoding="utf-8").splitlines()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    PreTrainedTokenizerFast(tokenizer_object=trained).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def model(harness: ModuleType) -> Callable[..., Any]:
    """Build a model of the harness from two functions of a request: a log-probability, and a text."""

    class Scripted(harness.api.model.LM):
        tokenizer_name = "scripted"

        def __init__(self, likelihood: Callable[[Any], float], text: Callable[[Any], str]) -> None:
            super().__init__()
            self.likelihood, self.text = likelihood, text
            self.requests: list[tuple[Any, ...]] = []

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            self.requests += [request.args for request in requests]
            return [(self.likelihood(request), False) for request in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            self.requests += [request.args for request in requests]
            return [self.text(request) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise NotImplementedError

        def chat_template(self, chat_template: Any = False) -> str:
            return "scripted"

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            turns = "".join(f"<{turn['role']}>{turn['content']}</>" for turn in chat_history)
            return turns + "<assistant>" * add_generation_prompt

    return Scripted


@pytest.fixture(scope="session")
def perfect(model: Callable[..., Any]) -> Any:
    def likelihood(request: Any) -> float:
        document = request.doc
        right = document["relevant"] if "relevant" in document else [document["gold"]]
        return 0.0 if request.idx in right else -9.0

    return model(likelihood, lambda request: request.doc["target"])


@pytest.fixture
def guessing(model: Callable[..., Any]) -> Any:
    """Gives random log-probabilities, and generates one word that is never right."""
    rng = random.Random(0)
    return model(lambda request: -rng.random(), lambda request: "абракадабра")


@pytest.fixture(scope="session")
def run(harness: ModuleType, data: str) -> RunTasks:
    """Run tasks as `lm_eval --include_path … --tasks …` does."""

    def evaluate(model: Any, *tasks: str, metadata: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        manager = harness.tasks.TaskManager(
            include_path=str(TASK_FILES), include_defaults=False, metadata={"data": data, **(metadata or {})}
        )
        return harness.evaluator.simple_evaluate(
            model=model, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, **options
        )

    return evaluate
