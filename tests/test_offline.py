"""Nothing leaves the machine: the commands run where there is no network, and their system calls are read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "examples" / "documents"

# One process, every stage: what a shell user does in three commands.
WHOLE_JOB = """
import sys
from chinese_alpaca_rag.cli import main
library, documents, report = sys.argv[1:]
for arguments in (
    ["ingest", documents, "--library", library, "--json"],
    ["ask", "年假有多少天？", "--library", library, "--json"],
    ["summarize", report, "--json"],
    ["doctor", "--library", library, "--json"],
):
    sys.argv = ["alpaca-rag", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""

# What the packages of dense retrieval do in a program.
STORES = """
import sys
from pathlib import Path
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import LocalEmbeddings, open_chroma_vectors, open_library_vectors
library, embedder = sys.argv[1], sys.argv[2]
with Library.open(library, readonly=True) as opened:
    for name, opening in (("chroma", open_chroma_vectors), ("faiss", open_library_vectors)):
        store = opening(Path(library).parent / name, opened, LocalEmbeddings(embedder, device="cpu"))
        assert store.similarity_search("年假", k=1)
"""

# Calls that could reach beyond the machine; AF_UNIX and AF_NETLINK stay inside it.
OUTWARD = re.compile(r"(connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?,.*")
LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')


def job(library: Path) -> list[str]:
    report = max(DOCUMENTS.glob("*.pdf"), key=lambda path: path.stat().st_size)
    return [sys.executable, "-c", WHOLE_JOB, str(library), str(DOCUMENTS), str(report)]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, cwd=ROOT
    )


def write_models(folder: Path) -> tuple[str, str]:
    """An embedding model and a cross-encoder with random weights, where the packages for them are installed."""
    for package in ("sentence_transformers", "onnx", "faiss", "langchain_chroma"):
        pytest.importorskip(package, reason="needs the dense extra")
    from tests.retrieval.toy_cross_encoder import write_cross_encoder
    from tests.retrieval.toy_embedder import write_embedder

    write_cross_encoder(folder / "cross-encoder")
    return str(write_embedder(folder / "embedder", most=128)), str(folder / "cross-encoder")


def works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def test_the_whole_job_runs_without_a_network(tmp_path: Path) -> None:
    if not works("unshare", "--net", "--map-root-user", "true"):
        pytest.skip("this machine does not allow a process its own network namespace")
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", *job(tmp_path / "library")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_models_and_stores_of_search_make_no_call(tmp_path: Path) -> None:
    if not works("strace", "-f", "-o", "/dev/null", "true"):
        pytest.skip("strace is not installed or not permitted here")
    embedder, reranker = write_models(tmp_path)
    library = tmp_path / "library"
    models = {"ALPACA_RAG_EMBEDDING": embedder, "ALPACA_RAG_RERANKER": reranker, "ALPACA_RAG_CACHE": str(tmp_path)}
    for number, command in enumerate((job(library), [sys.executable, "-c", STORES, str(library), embedder])):
        trace = tmp_path / f"trace-{number}"
        tracing = ("strace", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace))
        done = run(*tracing, *command, **models)
        assert done.returncode == 0, done.stderr[-3000:]
        outward = [line for line in trace.read_text(errors="replace").splitlines() if OUTWARD.search(line)]
        assert [line for line in outward if not LOOPBACK.search(line)] == []


def test_models_and_stores_of_search_need_no_network(tmp_path: Path) -> None:
    if not works("unshare", "--net", "--map-root-user", "true"):
        pytest.skip("this machine does not allow a process its own network namespace")
    embedder, reranker = write_models(tmp_path)
    library = tmp_path / "library"
    models = {"ALPACA_RAG_EMBEDDING": embedder, "ALPACA_RAG_RERANKER": reranker, "ALPACA_RAG_CACHE": str(tmp_path)}
    for command in (job(library), [sys.executable, "-c", STORES, str(library), embedder]):
        done = run("unshare", "--net", "--map-root-user", *command, **models)
        assert done.returncode == 0, done.stderr[-3000:]


def test_no_system_call_of_the_whole_job_reaches_out(tmp_path: Path) -> None:
    if not works("strace", "-f", "-o", "/dev/null", "true"):
        pytest.skip("strace is not installed or not permitted here")
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-o",
        str(trace),
        *job(tmp_path / "library"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outward = [line for line in trace.read_text(errors="replace").splitlines() if OUTWARD.search(line)]
    assert [line for line in outward if not LOOPBACK.search(line)] == []


def test_the_trace_reader_would_notice_a_connection() -> None:
    line = '123 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16) = 0'
    assert OUTWARD.search(line)
    assert not LOOPBACK.search(line)
    assert LOOPBACK.search(line.replace("10.0.0.1", "127.0.0.1"))


def test_a_socket_in_the_test_process_is_refused() -> None:
    import socket

    from pytest_socket import SocketBlockedError

    with pytest.raises(SocketBlockedError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def test_tracing_in_the_environment_is_switched_off_by_the_command() -> None:
    program = (
        "from chinese_alpaca_rag.offline import stay_offline; stay_offline(); import os;"
        "print(os.environ['LANGSMITH_TRACING'], os.environ['LANGCHAIN_TRACING_V2'], os.environ['HF_HUB_OFFLINE'])"
    )
    environment = {**os.environ, "LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["false", "false", "1"]
