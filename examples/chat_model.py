"""The chat model by itself, in a plain LangChain chain: ``python examples/chat_model.py MODEL QUESTION``.

MODEL is a GGUF file, a transformers folder, or a name from ``alpaca-rag models list``.
"""

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from chinese_alpaca_rag.llms import chat_alpaca


def main(model: str, question: str) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "你是一个乐于助人的助手。"), ("human", "{question}")])
    chain = prompt | chat_alpaca(model, max_tokens=200) | StrOutputParser()
    for piece in chain.stream({"question": question}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
