"""Any LangChain retriever and any LangChain vector store will do: ``python examples/own_retriever.py FILE QUESTION``.

Here the kit reads and splits the file, LangChain's in-memory vector store holds the passages, and a
hashing embedding, which needs no weights, stands where you would put your own embedding model.
"""

import sys
from itertools import pairwise
from zlib import crc32

from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.ingest import load_documents
from chinese_alpaca_rag.llms import chat_alpaca


class HashedBigrams(Embeddings):
    """Counts of character bigrams in 4,096 buckets."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        counts = [0.0] * 4096
        for first, second in pairwise(text):
            counts[crc32((first + second).encode()) % len(counts)] += 1.0
        return counts


def main(path: str, question: str) -> None:
    store = InMemoryVectorStore.from_documents(load_documents(path), HashedBigrams())
    chain = create_qa_chain(chat_alpaca("extractive"), store.as_retriever(search_kwargs={"k": 6}))
    answer = chain.invoke(question)
    print(answer.answer)
    print([(citation.page, citation.quote) for citation in answer.citations if citation.verified])


if __name__ == "__main__":
    main(*sys.argv[1:])
