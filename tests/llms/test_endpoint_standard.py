"""LangChain's own suites for chat models on ``ChatAlpacaEndpoint``, against a server process of llama-cpp-python."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.serving import serving_command
from chinese_alpaca_rag.llms.endpoint import ChatAlpacaEndpoint
from tests.endpoint_servers import Running, free_port, running
from tests.llms.test_standard import Described
from tests.toy_family import ToyCheckpoint


@pytest.fixture(scope="module")
def server(toy_closing: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    card = read_checkpoint(toy_closing.gguf).card
    command = serving_command(card, engine="llama-cpp-python", path=toy_closing.gguf, port=port)
    with running([sys.executable, *command[1:]], port, tmp_path_factory.mktemp("standard") / "log") as started:
        yield started


class TestUnitEndpoint(Described, ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _place(self, toy_closing: ToyCheckpoint) -> None:
        self.params = {"base_url": "http://127.0.0.1:1", "tokenizer_path": toy_closing.gguf}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaEndpoint


@pytest.mark.allow_hosts(["127.0.0.1"])
class TestIntegrationEndpoint(Described, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _place(self, toy_closing: ToyCheckpoint, server: Running) -> None:
        self.params = {"base_url": server.url, "tokenizer_path": toy_closing.gguf, "timeout": 30}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaEndpoint


del ChatModelIntegrationTests, ChatModelUnitTests
