"""HTTP to a model server: one request, its events, and every way in which it can go wrong as ``EndpointError``.

What a server sends is untrusted: lengths are bounded, JSON is checked, nothing of it is evaluated, and
compressed answers are not taken. No proxy of the environment comes between unless asked for: prompts to
a server on this machine would leave it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from chinese_alpaca_rag.errors import EndpointError, ModelError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.endpoint_connection import Connection
from chinese_alpaca_rag.llms.endpoint_failures import (
    bad_status,
    damaged,
    not_an_address,
    readable,
    retry_after,
    server_says,
    too_long,
    unreachable,
)

#: Bytes: of one line or JSON document, and of everything that answers one request.
LONGEST_EVENT: Final = 4 * 1024 * 1024
LONGEST_ANSWER: Final = 64 * 1024 * 1024
_LONGEST_ERROR: Final = 64 * 1024

# Nothing was begun: asking again cannot do anything twice.
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 30.0

_DONE: Final = b"[DONE]"


@dataclass(frozen=True)
class EndpointClient:
    """Requests to the server at ``address`` (without ``/v1``); it may be shared by threads.

    Times are in seconds: ``read_timeout`` is the longest silence, ``connect_timeout`` the longest wait
    for a connection. ``retries`` are further attempts, made only while nothing was received.
    """

    address: str
    api_key: str | None = field(default=None, repr=False)
    read_timeout: float = 600.0
    connect_timeout: float = 10.0
    retries: int = 2
    verify: bool = True
    use_proxies: bool = False

    def get(self, path: str, *, optional: bool = False) -> dict[str, Any] | None:
        """The JSON object at ``path``; with ``optional``, ``None`` where the server has no such thing."""
        with self._answer("GET", path, None, threading.Event(), optional=optional) as response:
            return None if response is None else _json_object(_whole(response))

    def post(
        self, path: str, body: dict[str, Any], cancelled: threading.Event, *, optional: bool = False
    ) -> dict[str, Any] | None:
        """The JSON object that answers ``body``."""
        with self._answer("POST", path, body, cancelled, optional=optional) as response:
            return None if response is None else _json_object(_whole(response))

    def events(self, path: str, body: dict[str, Any], cancelled: threading.Event) -> Generator[dict[str, Any]]:
        """The server-sent events that answer ``body``, up to ``[DONE]`` or the end.

        A set ``cancelled`` ends the iteration and closes the connection, also while the server is silent;
        closing the generator closes it at once. Raises ``EndpointError``, also for an error sent as an event.
        """
        with self._answer("POST", path, body, cancelled) as response:
            if response is None:
                return
            if "json" in response.headers.get("content-type", ""):
                yield _json_object(_whole(response))  # a server that does not stream after all
                return
            for data in _event_data(response.iter_raw()):
                if cancelled.is_set() or data == _DONE:
                    return
                yield _json_object(data)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        cancelled: threading.Event,
        *,
        optional: bool = False,
    ) -> Iterator[Any]:
        """A response of status 200 with its body still to be read, ``None`` for what is ``optional`` and not there."""
        connection = Connection(self, cancelled)
        try:
            response = self._begin(connection, method, path, body, cancelled)
            if optional and response.status_code in (404, 405, 501):
                yield None
                return
            if response.status_code != 200:
                raise bad_status(self.address, path, response.status_code, _error_text(response))
            if response.headers.get("content-encoding", "identity") != "identity":
                raise damaged(self.address, "a compressed answer, which was not asked for")
            yield response
        except ModelError:
            raise
        except _foreign_errors() as problem:
            # Our own hand closed it: the iteration just ends.
            if not cancelled.is_set():
                raise unreachable(self.address, problem, self) from problem
        finally:
            connection.close()

    def _begin(
        self, connection: Connection, method: str, path: str, body: dict[str, Any] | None, cancelled: threading.Event
    ) -> Any:
        """Ask, and ask again where that is safe. Raises the transport's own errors."""
        import httpx

        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            wait = min(_FIRST_WAIT * 4**attempt, _LONGEST_WAIT)
            try:
                response = connection.send(method, path, body)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError):
                if last or cancelled.is_set():
                    raise
            else:
                if response.status_code not in _TRY_AGAIN or last:
                    return response
                asked = retry_after(response.headers.get("retry-after"))
                if asked is not None and asked > _LONGEST_WAIT:
                    return response
                wait = wait if asked is None else asked
                response.close()
            if cancelled.wait(wait):
                raise httpx.ReadError("cancelled")
        raise AssertionError("the last attempt returns or raises")


def server_address(base_url: str) -> str:
    """``base_url`` without ``/v1`` and trailing slashes. Raises ``WrongUsageError`` unless it is http or https."""
    import httpx

    text = base_url.strip().rstrip("/")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError, TypeError) as problem:
        raise not_an_address(base_url) from problem
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise not_an_address(base_url)
    return text.removesuffix("/v1").rstrip("/")


def _foreign_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)


def _whole(response: Any) -> bytes:
    """The body, up to the length of one document."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > LONGEST_EVENT:
            raise too_long(LONGEST_EVENT)
    return bytes(body)


def _error_text(response: Any) -> str:
    """What the server says about a refusal, made readable; at most a few hundred characters."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _LONGEST_ERROR:
            break
    try:
        return server_says(json.loads(bytes(body)))
    except (ValueError, RecursionError):
        return readable(bytes(body).decode("utf-8", "replace"))


def _event_data(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event (HTML standard, 9.2.6): lines end in CR, LF or both, an empty one ends an event."""
    data: list[bytes] = []
    length = 0
    for line in _lines(chunks):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                yield b"\n".join(data)
            data, length = [], 0
        elif name in (b"data", b"error"):
            # llama-server's older versions send an error as a field of that name.
            data.append(b'{"error": ' + value + b"}" if name == b"error" else value)
            length += len(value)
            if length > LONGEST_EVENT:
                raise too_long(LONGEST_EVENT)
    if data:
        yield b"\n".join(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends, never longer than an event may be."""
    rest = b""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > LONGEST_ANSWER:
            raise too_long(LONGEST_ANSWER)
        rest += chunk
        # The LF of a CR LF may come with the next chunk.
        ready, rest = (rest[:-1], rest[-1:]) if rest.endswith(b"\r") else (rest, b"")
        *lines, unfinished = ready.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = unfinished + rest
        if len(rest) > LONGEST_EVENT:
            raise too_long(LONGEST_EVENT)
        yield from lines
    if rest.rstrip(b"\r"):
        yield rest.rstrip(b"\r")


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise damaged("", f"no JSON: {readable(data[:80].decode('utf-8', 'replace'))!r}") from problem
    if not isinstance(value, dict):
        raise damaged("", f"JSON of another kind: {type(value).__name__}")
    if value.get("error"):
        raise EndpointError(
            Words(zh=f"模型服务报告错误：{server_says(value)}", en=f"The model server reports: {server_says(value)}"),
            hint=Words(zh="请查看模型服务的日志。", en="Look into the model server's log."),
        )
    return value
