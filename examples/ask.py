"""Ask one question over a library: ``python examples/ask.py LIBRARY QUESTION [MODEL [WINDOW]]``."""

import sys

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.llms import chat_alpaca
from chinese_alpaca_rag.retrieval import LibraryRetriever


def main(library: str, question: str, model: str = "extractive", window: str = "") -> None:
    chat = chat_alpaca(model, window=int(window) if window else None)
    chain = create_qa_chain(chat, LibraryRetriever(library_path=library))
    answer = chain.invoke(question)
    print(answer.answer)
    for citation in answer.citations:
        mark = "✓" if citation.verified else "✗"
        place = f"{citation.source} p.{citation.page} {citation.start}-{citation.end}"
        print(f"[{citation.n}] {mark} {place}: {citation.quote}")


if __name__ == "__main__":
    main(*sys.argv[1:])
