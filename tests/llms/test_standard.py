"""LangChain's own suite for chat models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from tests.toy_family import ToyCheckpoint


class StandardTests(ChatModelUnitTests):
    """Tool calls and structured output are not made yet: ``bind_tools`` is not there, and the suite sees that."""

    path: Path

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model_path": self.path}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # Without timeout, max_retries and api_key, which are for services: unknown fields are refused.
        return {"temperature": 0, "max_tokens": 100, "stop": []}

    @property
    def supports_model_override(self) -> bool:
        return False


class TestChatAlpacaGGUF(StandardTests):
    @pytest.fixture(autouse=True)
    def _weights(self, toy: ToyCheckpoint) -> None:
        self.path = toy.gguf

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaGGUF


class TestChatAlpacaHF(StandardTests):
    @pytest.fixture(autouse=True)
    def _weights(self, toy: ToyCheckpoint) -> None:
        self.path = toy.hf

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAlpacaHF


del StandardTests, ChatModelUnitTests
