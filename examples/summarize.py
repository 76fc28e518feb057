"""Summarise a file without a library: ``python examples/summarize.py FILE [MODEL [WINDOW]]``."""

import sys

from chinese_alpaca_rag.chains import create_summarize_chain
from chinese_alpaca_rag.ingest import load_documents
from chinese_alpaca_rag.llms import chat_alpaca


def main(path: str, model: str = "extractive", window: str = "") -> None:
    chain = create_summarize_chain(chat_alpaca(model, window=int(window) if window else None))
    summary = chain.invoke(load_documents(path))
    print(summary.summary)
    print(f"{summary.receipt.strategy}: {summary.receipt.passages_used} passages read, {summary.receipt.seconds:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
