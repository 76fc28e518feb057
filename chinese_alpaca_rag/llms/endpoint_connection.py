"""One connection to a model server that can be cut from outside, also while the server says nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.endpoint_client import EndpointClient

# Seconds between two looks at whether an answer was called off.
_WATCH: Final = 0.05


class Connection:
    """A connection for one request (with its repetitions), closed when the request is over.

    A blocked read cannot be interrupted, but shutting the socket down under it ends it: a small thread
    does so when ``cancelled`` is set.
    """

    def __init__(self, client: EndpointClient, cancelled: threading.Event) -> None:
        import httpx

        self._cancelled = cancelled
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        self._response: Any = None
        headers = {"accept-encoding": "identity", "user-agent": "chinese-alpaca-rag"}
        if client.api_key:
            headers["authorization"] = f"Bearer {client.api_key}"
        self._http = httpx.Client(
            base_url=client.address,
            headers=headers,
            timeout=httpx.Timeout(client.read_timeout, connect=client.connect_timeout),
            verify=client.verify,
            trust_env=client.use_proxies,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._watcher: threading.Thread | None = None

    def send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The response, its body unread. Raises what httpx raises."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="endpoint-watch", daemon=True)
            self._watcher.start()
        request = self._http.build_request(method, path, json=body, extensions={"trace": self._note_socket})
        self._response = self._http.send(request, stream=True)
        return self._response

    def close(self) -> None:
        """Close the connection, whatever of the answer is still to come."""
        self._closed.set()
        if self._response is not None:
            self._response.close()
        self._http.close()

    def _note_socket(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"].get_extra_info("socket")

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH):
            if self._cancelled.is_set() and self._socket is not None:
                # The plain socket's own method: TLS has nothing to say goodbye for.
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                return
