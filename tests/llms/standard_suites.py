"""LangChain's suites for chat models as they hold for this kit's, on weights that are random."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

JUDGEMENT = pytest.mark.xfail(
    reason="needs a trained model's judgement: which tool to call, with what, and how often", strict=True
)


class IntegrationTests(ChatModelIntegrationTests):
    """Everything but what random weights cannot know."""

    @JUDGEMENT
    def test_tool_calling(self, model: BaseChatModel) -> None:
        super().test_tool_calling(model)

    @JUDGEMENT
    async def test_tool_calling_async(self, model: BaseChatModel) -> None:
        await super().test_tool_calling_async(model)

    @JUDGEMENT
    def test_tool_calling_with_no_arguments(self, model: BaseChatModel) -> None:
        super().test_tool_calling_with_no_arguments(model)

    @JUDGEMENT
    def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)

    @JUDGEMENT
    def test_unicode_tool_call_integration(self, model: BaseChatModel, **options: Any) -> None:
        super().test_unicode_tool_call_integration(model, **options)


class Described:
    """What the suites are told of a model."""

    params: dict[str, Any]

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.params

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # Without timeout, max_retries and api_key, which are for services: unknown fields are refused.
        return {"temperature": 0, "max_tokens": 600, "stop": []}

    @property
    def supports_model_override(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return True
