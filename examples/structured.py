"""Facts out of a text, in a form a program can use: ``python examples/structured.py MODEL TEXT_FILE``.

The answer is held to the schema while it is written, and checked again when it is there.
"""

import sys
from pathlib import Path

from pydantic import BaseModel, Field

from chinese_alpaca_rag.llms import chat_alpaca


class Notice(BaseModel):
    """What a notice says."""

    title: str = Field(description="标题", max_length=40)
    department: str = Field(description="发文部门", max_length=20)
    deadlines: list[str] = Field(description="提到的日期", max_length=5)


def main(model: str, file: str) -> None:
    text = Path(file).read_text(encoding="utf-8")
    reader = chat_alpaca(model, temperature=0, max_tokens=600).with_structured_output(Notice)
    notice = reader.invoke(f"从下面的通知中提取标题、发文部门和日期。\n\n{text}")
    assert isinstance(notice, Notice)
    print(notice.model_dump_json(indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
