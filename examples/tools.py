"""A model that may use tools: ``python examples/tools.py MODEL QUESTION``.

The family was not trained to call tools: what they do is told in the system text, and a call is JSON that the
tool's own schema holds while it is written.
"""

import sys
from datetime import date

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool

from chinese_alpaca_rag.llms import chat_alpaca

MOST_ROUNDS = 3


@tool
def days_until(year: int, month: int, day: int) -> str:
    """从今天到某一天还有几天。"""
    try:
        return f"{(date(year, month, day) - date.today()).days} 天"
    except ValueError as problem:
        return f"没有这一天：{problem}"


def main(model: str, question: str) -> None:
    tools = {days_until.name: days_until}
    assistant = chat_alpaca(model, temperature=0).bind_tools(list(tools.values()))
    messages: list[BaseMessage] = [HumanMessage(question)]
    for _ in range(MOST_ROUNDS):
        answer = assistant.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            result = tools[call["name"]].invoke(call)
            print(f"{call['name']}({call['args']}) = {result.content}")
            messages.append(result)
    print(answer.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
