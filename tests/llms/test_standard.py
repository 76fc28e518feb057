"""LangChain's own suites for chat models, unit and integration, on the models whose weights are here."""

from __future__ import annotations

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from tests.llms.standard_suites import Described, IntegrationTests
from tests.toy_family import ToyCheckpoint


class OnGGUF(Described):
    @pytest.fixture(autouse=True)
    def _weights(self, toy_closing: ToyCheckpoint) -> None:
        self.params = {"model_path": toy_closing.gguf, "n_threads": 1}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaGGUF


class OnHF(Described):
    @pytest.fixture(autouse=True)
    def _weights(self, toy_closing: ToyCheckpoint, one_thread: None) -> None:
        self.params = {"model_path": toy_closing.hf, "device": "cpu"}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaHF


class TestUnitGGUF(OnGGUF, ChatModelUnitTests):
    pass


class TestUnitHF(OnHF, ChatModelUnitTests):
    pass


class TestIntegrationGGUF(OnGGUF, IntegrationTests):
    pass


class TestIntegrationHF(OnHF, IntegrationTests):
    pass
