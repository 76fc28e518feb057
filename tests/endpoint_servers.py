"""Model servers for the tests: real processes at a port of this machine, started once and ended with the tests.

``python -m tests.endpoint_servers GGUF PORT`` is a server that speaks the wire formats of vLLM (under
``/vllm``) and llama-server (under ``/llama-server``) and evaluates the ids that it is given with the kit's own
llama.cpp backend, always choosing the likeliest. Under other paths it misbehaves, each in its own way.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REAL_LLAMA_SERVER = os.environ.get("ALPACA_RAG_TEST_LLAMA_SERVER") or shutil.which("llama-server")


@dataclass(frozen=True)
class Running:
    """A server that answers at ``url``."""

    url: str


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[Running]:
    """The server that ``command`` starts, once it takes connections; it is ended and waited for afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command), cwd=ROOT, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        _wait_for(port, process, log)
        yield Running(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nothing listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scripted_command(gguf: Path, port: int) -> list[str]:
    """The command that starts this module's own server."""
    return [sys.executable, "-m", "tests.endpoint_servers", str(gguf), str(port)]


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


class LikeliestIds:
    """Continues ids by the likeliest one, again and again."""

    def __init__(self, gguf: Path) -> None:
        from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF

        self.model = ChatAlpacaGGUF(model_path=gguf, n_threads=1)
        self.tokenizer = self.model.tokenizer
        self._before: list[int] = []

    def cached(self, prompt: list[int]) -> int:
        """How much of ``prompt`` the one before began with."""
        same = 0
        while same < min(len(prompt) - 1, len(self._before)) and prompt[same] == self._before[same]:
            same += 1
        self._before = prompt
        return same

    def steps(self, prompt: list[int], most: int, top: int) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
        """Each id with its log-probability and the ``top`` likeliest; an end id is the last."""
        import numpy as np

        ids = list(prompt)
        for _ in range(most):
            logits = np.asarray(self.model.next_token_logits(ids), dtype=np.float64)
            logprobs = logits - np.logaddexp.reduce(logits)
            best = np.argsort(-logprobs, kind="stable")[: max(1, top)]
            ids.append(int(best[0]))
            yield ids[-1], float(logprobs[best[0]]), [(int(index), float(logprobs[index])) for index in best[:top]]
            if ids[-1] in self.tokenizer.end_ids:
                return


def main(gguf: Path, port: int) -> None:
    """Serve until the process is ended."""
    import uvicorn

    uvicorn.run(application(LikeliestIds(gguf)), host="127.0.0.1", port=port, log_level="warning", lifespan="off")


def application(ids: LikeliestIds) -> Any:
    """The server as an ASGI application."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    served = _Served(ids)

    async def answer(request: Request) -> Any:
        behaviour = request.path_params["behaviour"]
        body = json.loads(await request.body() or b"{}")
        return await served.respond(behaviour, request.path_params["path"], body, request)

    async def last(request: Request) -> Response:
        return JSONResponse(served.bodies.get(request.path_params["behaviour"], {}))

    return Starlette(
        routes=[
            Route("/{behaviour}/last", last),
            Route("/{behaviour}/{path:path}", answer, methods=["GET", "POST"]),
        ]
    )


class _Served:
    """What every path answers. ``bodies`` keeps the last completion request of each behaviour."""

    def __init__(self, ids: LikeliestIds) -> None:
        self.ids = ids
        self.bodies: dict[str, Any] = {}
        self.asked: dict[str, int] = {}

    async def respond(self, behaviour: str, path: str, body: dict[str, Any], request: Any) -> Any:
        from starlette.responses import JSONResponse, RedirectResponse

        if behaviour == "needs-key" and request.headers.get("authorization") != "Bearer sesame":
            return JSONResponse({"error": {"message": "no key\x1b[31m"}}, 401)
        if behaviour == "elsewhere":
            return RedirectResponse("http://example.org/")
        if path == "v1/models":
            return self._models(behaviour)
        if path == "version":
            return JSONResponse({"version": "0.10.2" if behaviour == "old-vllm" else "0.14.1"})
        if path == "props" and behaviour == "old-llama-server":
            return JSONResponse({"default_generation_settings": {"n_ctx": 4096}})
        if path == "v1/completions":
            self.bodies[behaviour] = body
            self.asked[behaviour] = self.asked.get(behaviour, 0) + 1
            self.bodies[behaviour]["asked"] = self.asked[behaviour]
            return await self._complete(behaviour, body)
        return JSONResponse({"detail": "Not Found"}, 404)

    def _models(self, behaviour: str) -> Any:
        from starlette.responses import JSONResponse, Response

        name = {"wrong-model": "hfl/chinese-alpaca-2-13b", "wrong-file": "/models/chinese-alpaca-2-7b-64k.Q4_0.gguf"}
        row: dict[str, Any] = {"id": name.get(behaviour, "toy"), "object": "model", "owned_by": "vllm"}
        row["max_model_len"] = 1024 if behaviour == "small-window" else 4096
        if behaviour in ("llama-server", "old-llama-server", "other-vocabulary"):
            row["owned_by"] = "llamacpp"
            del row["max_model_len"]
        if behaviour == "llama-server":
            row["meta"] = {"n_ctx": 4096, "n_vocab": self.ids.tokenizer.vocabulary_size}
        if behaviour == "other-vocabulary":
            row["meta"] = {"n_ctx": 4096, "n_vocab": 32000}
        if behaviour in ("unknown", "text-only"):
            row = {"id": "toy", "owned_by": "somebody"}
        rows = {"two-models": [row, {**row, "id": "other"}], "no-model": [], "no-list": "toy"}.get(behaviour, [row])
        if behaviour == "no-json":
            return Response("<html>hello</html>", media_type="text/html")
        return JSONResponse({"object": "list", "data": rows})

    async def _complete(self, behaviour: str, body: dict[str, Any]) -> Any:
        from starlette.responses import JSONResponse, Response, StreamingResponse

        first = self.asked[behaviour] == 1
        if behaviour == "busy-once" and first:
            return JSONResponse({"error": "busy"}, 429, headers={"retry-after": "0"})
        if behaviour == "busy-for-long":
            return JSONResponse({"error": "busy"}, 429, headers={"retry-after": "3600"})
        if behaviour == "overloaded":
            return JSONResponse({"message": "loading model"}, 503)
        if behaviour == "failing":
            return JSONResponse({"detail": "out of memory"}, 500)
        if behaviour == "compressed":
            return Response(b"\x1f\x8b", headers={"content-encoding": "gzip"}, media_type="text/event-stream")
        if behaviour == "text-only" and not isinstance(body["prompt"], str):
            return JSONResponse({"error": "prompt has to be a string"}, 422)
        prompt = body["prompt"]
        if isinstance(prompt, str):
            prompt = _cut_as_llama_cpp(prompt, self.ids.tokenizer)
        events = self._events(behaviour, body, prompt)
        if not body["stream"]:
            return JSONResponse(self._whole(behaviour, body, prompt))
        return StreamingResponse(_misbehaving(behaviour, events), media_type="text/event-stream")

    def _events(self, behaviour: str, body: dict[str, Any], prompt: list[int]) -> Iterator[dict[str, Any]]:
        """A stream's events as vLLM or llama-server sends them."""
        decoder = self.ids.tokenizer.stream_decoder()
        spaced = False
        count = 0
        finish = "length"
        top = body.get("logprobs") or 0
        cached = self.ids.cached(prompt)
        text = ""
        for index, logprob, best in self.ids.steps(prompt, body["max_tokens"], top):
            count += 1
            if index in self.ids.tokenizer.end_ids:
                finish = "stop"
                break
            piece = decoder.push(index)
            if not spaced and piece:
                # Servers show the dummy prefix as the space that it is written with.
                piece, spaced = (" " if self.ids.tokenizer.starts_with_space(index) else "") + piece, True
            text += piece
            stopped = next((stop for stop in body.get("stop", []) if stop in text), None)
            choice: dict[str, Any] = {"index": 0, "text": piece, "finish_reason": None}
            if body.get("return_token_ids"):
                choice["token_ids"] = [index]
            if body.get("logprobs") is not None:
                choice["logprobs"] = {
                    "tokens": [f"token_id:{index}"],
                    "token_logprobs": [logprob],
                    "top_logprobs": [{f"token_id:{near}": value for near, value in best}],
                }
            yield {"object": "text_completion", "choices": [choice]}
            if stopped:
                finish = "stop"
                break
        rest = decoder.finish()
        yield {"object": "text_completion", "choices": [{"index": 0, "text": rest, "finish_reason": finish}]}
        if behaviour != "no-usage":
            yield {"object": "text_completion", "choices": [], "usage": self._usage(behaviour, prompt, count, cached)}

    def _usage(self, behaviour: str, prompt: list[int], count: int, cached: int) -> dict[str, Any]:
        return {
            "prompt_tokens": len(prompt) + (behaviour == "wrong-count"),
            "completion_tokens": count,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _whole(self, behaviour: str, body: dict[str, Any], prompt: list[int]) -> dict[str, Any]:
        """llama-server's answer in one piece, with log-probabilities as entries."""
        steps = list(self.ids.steps(prompt, body["max_tokens"], body["n_probs"]))
        chosen = [index for index, *_ in steps if index not in self.ids.tokenizer.end_ids]
        entries = [
            {"id": index, "logprob": logprob, "top_logprobs": [{"id": near, "logprob": value} for near, value in best]}
            for index, logprob, best in steps
        ]
        choice = {
            "text": self.ids.tokenizer.decode(chosen),
            "finish_reason": "length" if len(chosen) == len(steps) else "stop",
            "logprobs": {"content": entries},
        }
        return {"choices": [choice], "usage": self._usage(behaviour, prompt, len(steps), self.ids.cached(prompt))}


def _cut_as_llama_cpp(text: str, tokenizer: Any) -> list[int]:
    """BOS, and ordinary ids between control tokens, whoever wrote them."""
    import re

    ids = [tokenizer.bos_id]
    for part in re.split("(</?s>)", text):
        ids += (
            [tokenizer.special_ids[part]] if part in tokenizer.special_ids else tokenizer.encode(part) if part else []
        )
    return ids


async def _misbehaving(behaviour: str, events: Iterator[dict[str, Any]]) -> Any:
    import anyio

    if behaviour == "silent":
        await anyio.sleep(5)
    if behaviour == "endless-line":
        while True:
            yield b"x" * 1_000_000
            await anyio.sleep(0.001)
    if behaviour == "chatty":
        while True:
            yield b'data: {"choices": [{"text": "%s", "finish_reason": null}]}\n\n' % (b"a" * 1000)
            await anyio.sleep(0.001)
    damage = DAMAGED.get(behaviour)
    for number, event in enumerate(events):
        if number == 3 and damage is not None:
            yield damage
            return
        # A comment, lines ended in CR LF and data in two fields are all allowed.
        text = json.dumps(event)
        if behaviour == "odd-lines":
            middle = text.index(" ") + 1
            yield f": ping\r\ndata: {text[:middle]}\r".encode()
            yield f"\ndata:{text[middle:]}\r\n\r\n".encode()
        else:
            yield f"data: {text}\n\n".encode()
        await anyio.sleep(0.05 if behaviour == "slow" else 0)
    yield b"data: [DONE]\n\n"


# What comes in place of the fourth event.
DAMAGED = {
    "cut-off": b"",
    "half-json": b'data: {"choices": [\n\n',
    "deep-json": b"data: " + b"[" * 100_000 + b"\n\n",
    "list-event": b"data: [1, 2]\n\n",
    "text-is-number": b'data: {"choices": [{"text": 5}]}\n\n',
    "strange-finish": b'data: {"choices": [{"text": "", "finish_reason": "abort"}]}\n\n',
    "strange-ids": b'data: {"choices": [{"text": "a", "token_ids": [99999999]}]}\n\n',
    "error-event": b'data: {"error": {"message": "the engine died"}}\n\n',
    "error-field": b'error: {"message": "the slot died"}\n\n',
    "strange-usage": b'data: {"choices": [], "usage": {"prompt_tokens": "many"}}\n\n',
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
