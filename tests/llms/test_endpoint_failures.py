"""Model servers that are down, slow, hostile or not what was asked for: each an error that says what to do."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chinese_alpaca_rag.errors import EndpointError
from chinese_alpaca_rag.llms.endpoint import ChatAlpacaEndpoint
from chinese_alpaca_rag.llms.endpoint_failures import readable, retry_after, server_says
from tests.endpoint_servers import DAMAGED, Running, free_port, running, scripted_command
from tests.toy_family import ToyCheckpoint

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(scope="module")
def scripted(toy: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    with running(scripted_command(toy.gguf, port), port, tmp_path_factory.mktemp("scripted") / "log") as server:
        yield server


def model(toy: ToyCheckpoint, url: str, **fields: Any) -> ChatAlpacaEndpoint:
    greedy = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 12, "timeout": 20, "max_retries": 1}
    return ChatAlpacaEndpoint.model_validate({"base_url": url, "tokenizer_path": toy.gguf, **greedy, **fields})


@pytest.mark.parametrize(
    ("behaviour", "message", "hint"),
    [
        ("wrong-model", "serves hfl/chinese-alpaca-2-13b, not chinese-alpaca-2-toy", "--model|vllm serve"),
        ("wrong-file", "7b-64k.Q4_0.gguf, not chinese-alpaca-2-toy", "model='chinese-alpaca-2-7b-64k'"),
        ("small-window", "window of 1024 tokens; 4096 are wanted", "vllm serve .*--max-model-len 4096"),
        ("other-vocabulary", "vocabulary of 32000, the tokenizer one of 1024", "tokenizer_path"),
        ("two-models", "lists 2 models", "toy, other"),
        ("no-model", "lists 0 models", "served_model"),
        ("no-list", "no list of models", "OpenAI-compatible"),
        ("no-json", "no JSON: '<html>hello</html>'", "OpenAI-compatible"),
        ("needs-key", "HTTP 401: no key \\[31m", "api_key"),
        ("elsewhere", "HTTP 307", "give that address"),
        ("wrong-count", "tokens were sent, but the server .toy. counts", "llama-server or vLLM"),
        ("busy-for-long", "HTTP 429: busy", "later"),
        ("overloaded", "HTTP 503: loading model", "loading"),
        ("failing", "HTTP 500: out of memory", "log"),
        ("compressed", "compressed", "OpenAI-compatible"),
        ("endless-line", "more than 4,194,304 bytes", "OpenAI-compatible"),
        ("chatty", "more than the 12 tokens", "OpenAI-compatible"),
        ("cut-off", "half-way", "interrupt_requests"),
        ("half-json", "no JSON", "OpenAI-compatible"),
        ("deep-json", "no JSON", "OpenAI-compatible"),
        ("list-event", "JSON of another kind: list", "OpenAI-compatible"),
        ("text-is-number", "text is int", "OpenAI-compatible"),
        ("strange-finish", "finish_reason is 'abort'", "OpenAI-compatible"),
        ("strange-ids", "the token id 99999999 of a vocabulary of 1024", "OpenAI-compatible"),
        ("error-event", "reports: the engine died", "log"),
        ("error-field", "reports: the slot died", "log"),
        ("strange-usage", "a count of 'many' tokens", "OpenAI-compatible"),
    ],
)
def test_what_is_wrong_is_said(toy: ToyCheckpoint, scripted: Running, behaviour: str, message: str, hint: str) -> None:
    begun = time.monotonic()
    with pytest.raises(EndpointError, match=message) as caught:
        model(toy, f"{scripted.url}/{behaviour}").invoke("公司的年假有几天？")
    assert time.monotonic() - begun < 5
    assert caught.value.text("zh") != caught.value.text("en")
    assert re.search(hint, caught.value.hint.text("en"))
    assert "\x1b" not in str(caught.value)


def test_every_damage_is_tried() -> None:
    tried = {case[0] for case in test_what_is_wrong_is_said.pytestmark[0].args[1]}  # type: ignore[attr-defined]
    assert set(DAMAGED) <= tried


def test_a_server_that_is_down(toy: ToyCheckpoint) -> None:
    with pytest.raises(EndpointError, match="cannot be reached") as caught:
        model(toy, f"http://127.0.0.1:{free_port()}").invoke("你好")
    assert "alpaca-rag models command" in str(caught.value)


def test_a_server_that_says_nothing(toy: ToyCheckpoint, scripted: Running) -> None:
    with pytest.raises(EndpointError, match=r"silent for 0\.3 seconds"):
        model(toy, f"{scripted.url}/silent", timeout=0.3).invoke("你好")


def test_cancelling_does_not_wait_for_a_silent_server(toy: ToyCheckpoint, scripted: Running) -> None:
    silent = model(toy, f"{scripted.url}/silent")
    cancelled = threading.Event()
    from langchain_core.messages import HumanMessage

    answer = silent._answer_to(silent._request(silent.render([HumanMessage("你好")]).ids, None), cancelled)
    threading.Timer(0.3, cancelled.set).start()
    begun = time.monotonic()
    assert list(answer.pieces()) == []
    assert time.monotonic() - begun < 2
    assert answer.finish_reason is None


def test_closing_the_stream_closes_the_connection(toy: ToyCheckpoint, scripted: Running) -> None:
    begun = time.monotonic()
    stream = model(toy, f"{scripted.url}/slow", max_tokens=500).stream("公司的年假有几天？")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 2


def test_what_passes_by_itself_is_tried_again(toy: ToyCheckpoint, scripted: Running) -> None:
    assert model(toy, f"{scripted.url}/busy-once").invoke("公司的年假有几天？").content
    assert model(toy, f"{scripted.url}/odd-lines").invoke("公司的年假有几天？").content


def test_a_started_answer_is_not_asked_for_again(toy: ToyCheckpoint, scripted: Running) -> None:
    import httpx

    with pytest.raises(EndpointError):
        model(toy, f"{scripted.url}/cut-off", max_retries=5).invoke("出差住宿的标准是多少？")
    before = httpx.get(f"{scripted.url}/cut-off/last", trust_env=False).json()["asked"]
    with pytest.raises(EndpointError):
        model(toy, f"{scripted.url}/cut-off", max_retries=5).invoke("出差住宿的标准是多少？")
    assert httpx.get(f"{scripted.url}/cut-off/last", trust_env=False).json()["asked"] == before + 1


def test_without_usage_tokens_are_counted_here(toy: ToyCheckpoint, scripted: Running) -> None:
    answer = model(toy, f"{scripted.url}/no-usage").invoke("公司的年假有几天？")
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 12
    assert usage["input_tokens"] > 12


def test_a_named_model_and_a_key(toy: ToyCheckpoint, scripted: Running) -> None:
    assert model(toy, f"{scripted.url}/two-models", served_model="other").invoke("你好").content
    assert model(toy, f"{scripted.url}/needs-key", api_key="sesame").invoke("你好").content
    with pytest.raises(EndpointError, match="serves no third"):
        model(toy, f"{scripted.url}/two-models", served_model="third").invoke("你好")


def test_older_versions_are_spoken_to_in_their_words(toy: ToyCheckpoint, scripted: Running) -> None:
    assert model(toy, f"{scripted.url}/old-vllm").served().version == (0, 10)
    assert model(toy, f"{scripted.url}/old-llama-server").served().window == 4096


def test_no_proxy_comes_between(toy: ToyCheckpoint, scripted: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert model(toy, f"{scripted.url}/vllm").invoke("你好").content
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", None), ("soon", None), (None, None)]
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_a_servers_words_are_made_readable() -> None:
    assert readable("a\x1b[31m\u202eb\n\tc" + "d" * 999).startswith("a [31m b cd")
    assert len(readable("d" * 999)) == 301
    for document in ({"error": {"message": "m"}}, {"error": "m"}, {"detail": "m"}, {"message": "m"}, "m"):
        assert server_says(document) == "m"
    assert server_says({"detail": [{"loc": ["body"]}]}) == '[{"loc": ["body"]}]'
