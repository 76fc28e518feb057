"""How soon the commands answer: help, and an extractive answer over the example documents, as whole processes.

Each is measured in turn with an empty Python process, which is what the machine itself takes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import figure, interleaved, medians

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "examples" / "documents"
COMMAND = (sys.executable, "-m", "chinese_alpaca_rag")


def run(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True, cwd=ROOT)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/library"
        run(*COMMAND, "ingest", str(DOCUMENTS), "--library", library)
        for name, arguments, target in (
            ("help_seconds", ("--help",), 0.3),
            ("ask_seconds", ("ask", "没有休完的年假可以顺延到什么时候？", "--library", library), 1.0),
            ("nothing_changed_ingest_seconds", ("ingest", str(DOCUMENTS), "--library", library), 1.0),
        ):
            ours, empty = interleaved(
                lambda arguments=arguments: run(*COMMAND, *arguments),  # type: ignore[misc]
                lambda: run(sys.executable, "-c", ""),
                rounds=7,
            )
            medians(name, alpaca_rag_seconds=ours, empty_python_seconds=empty)
            figure(name, ours, "<=", target)


if __name__ == "__main__":
    main()
