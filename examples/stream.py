"""Show an answer while it is written: ``python examples/stream.py LIBRARY QUESTION [MODEL [WINDOW]]``."""

import sys

from chinese_alpaca_rag.chains import Finished, PlanMade, Token, create_qa_chain
from chinese_alpaca_rag.llms import chat_alpaca
from chinese_alpaca_rag.retrieval import LibraryRetriever


def main(library: str, question: str, model: str = "extractive", window: str = "") -> None:
    chat = chat_alpaca(model, window=int(window) if window else None)
    chain = create_qa_chain(chat, LibraryRetriever(library_path=library))
    for event in chain.stream(question):
        match event:
            case PlanMade():
                print(f"[{event.strategy}]")
            case Token():
                print(event.text, end="", flush=True)
            case Finished():
                print(f"\n{event.result.receipt}")


if __name__ == "__main__":
    main(*sys.argv[1:])
