"""Runs another program as a parser is run: ``python -m …converter_process BYTES PROGRAM ARGUMENTS…``.

It gives up the network, core dumps and memory beyond BYTES of address space, and then becomes the program.
"""

from __future__ import annotations

import os
import sys

from chinese_alpaca_rag.ingest.parser_process import leave_network, limit_resources


def main() -> None:
    """Confine this process and replace it by the program."""
    memory, program, *arguments = sys.argv[1:]
    limit_resources(int(memory))
    leave_network()
    os.execv(program, [program, *arguments])  # noqa: S606 - without a shell


if __name__ == "__main__":
    main()
