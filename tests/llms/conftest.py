from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

OpenModel = Callable[..., LocalChat]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_LANGUAGE", "en")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """A plain 4K chat model."""
    return build_toy_family(tmp_path_factory.mktemp("toy"), tokenizer_model=toy_tokenizer_model())


@pytest.fixture(scope="session")
def toy_base(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """The same as a base model."""
    return build_toy_family(tmp_path_factory.mktemp("base"), tokenizer_model=toy_tokenizer_model(), kind="base")


@pytest.fixture(scope="session")
def toy_closing(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """A plain 4K chat model that likes to close what it opened: JSON held to a schema then comes to an end."""
    return build_toy_family(
        tmp_path_factory.mktemp("closing"),
        tokenizer_model=toy_tokenizer_model(),
        favoured={'"': 2.5, "}": 1.5, "]": 1.5},
    )


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Models this small gain nothing from a second thread, and lose much where the tests share the machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def closing(one_thread: None) -> Iterator[Callable[[LocalChat], LocalChat]]:
    """Takes models that are closed when the test is over."""
    models: list[LocalChat] = []

    def take(model: LocalChat) -> LocalChat:
        models.append(model)
        return model

    yield take
    for model in models:
        model.close()


def _opener(kind: str, toy: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]) -> OpenModel:
    kinds: dict[str, tuple[type[LocalChat], dict[str, Any]]] = {
        "gguf": (ChatAlpacaGGUF, {"model_path": toy.gguf, "n_threads": 1}),
        "hf": (ChatAlpacaHF, {"model_path": toy.hf, "device": "cpu"}),
    }
    model, place = kinds[kind]

    def open_it(**fields: Any) -> LocalChat:
        return closing(model.model_validate({**place, **fields}))

    return open_it


@pytest.fixture(params=["gguf", "hf"])
def open_model(
    request: pytest.FixtureRequest, toy: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]
) -> OpenModel:
    """Opens the toy model in one of the two formats: what is true of one backend is true of the other."""
    return _opener(request.param, toy, closing)


@pytest.fixture
def open_hf(toy: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]) -> OpenModel:
    """Opens the toy model with transformers, in single precision: its arithmetic does not depend on rows."""
    return _opener("hf", toy, closing)


@pytest.fixture
def open_gguf(toy: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]) -> OpenModel:
    """Opens the toy model with llama.cpp."""
    return _opener("gguf", toy, closing)
