"""The words of the command line's options and arguments, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from chinese_alpaca_rag.language import Words

_NOTHING = Words(zh="", en="")


@dataclass(frozen=True)
class ParameterWords:
    """What the help of one option or argument says; ``placeholder`` stands for its value."""

    help: Words
    placeholder: Words = _NOTHING


PARAMETERS: dict[str, ParameterWords] = {
    "paths": ParameterWords(
        Words(zh="文件或文件夹，可以有多个", en="files or folders, one or more"), Words(zh="路径…", en="PATH…")
    ),
    "question": ParameterWords(
        Words(zh="要问的话；写 - 则从标准输入读取", en="what to ask; - reads it from standard input"),
        Words(zh="问题", en="QUESTION"),
    ),
    "questions": ParameterWords(
        Words(
            zh="一次问文件里的所有问题：每行一个（# 开头的行跳过），或每行一个 JSON（.jsonl）；- 为标准输入",
            en="ask every question of a file: one a line (# skips a line), or a .jsonl of objects; - is standard input",
        ),
        Words(zh="文件", en="FILE"),
    ),
    "answers": ParameterWords(
        Words(
            zh="把答案逐条追加到这个文件（JSON 行）；再次运行时跳过其中已有的",
            en="append each answer to this file as a line of JSON; another run skips what is answered there",
        ),
        Words(zh="文件", en="FILE"),
    ),
    "name": ParameterWords(
        Words(zh="模型的名称、Hub 名称或路径", en="a model's name, hub name or path"), Words(zh="名称", en="NAME")
    ),
    "prune": ParameterWords(
        Words(
            zh="把给定文件夹里已不存在的文件从知识库移除",
            en="take files that are gone from the given folders out of the library",
        )
    ),
    "encoding": ParameterWords(
        Words(
            zh="文本文件的编码，例如 gb18030；默认自动判断",
            en="encoding of text files, such as gb18030; found out by default",
        ),
        Words(zh="编码", en="NAME"),
    ),
    "password": ParameterWords(
        Words(
            zh="打开加密 PDF 的密码；写 - 则在运行时输入，不显示",
            en="password of encrypted PDF files; - asks for it without showing it",
        ),
        Words(zh="密码", en="TEXT"),
    ),
    "tag": ParameterWords(
        Words(zh="给这些文件加上标签，可以写多个", en="put a tag on these files; may be given more than once"),
        Words(zh="标签", en="TAG"),
    ),
    "watch": ParameterWords(
        Words(
            zh="一直守候这些文件夹，有变化就更新（已删除的一并移除），直到按 Ctrl-C",
            en="go on watching and keep the library in step, deletions included, until Ctrl-C",
        )
    ),
    "passages": ParameterWords(
        Words(zh="最多检索几个段落（默认 12）", en="how many passages to retrieve at most (default 12)"),
        Words(zh="个数", en="K"),
    ),
    "query": ParameterWords(
        Words(zh="要找的字词或一句话", en="words or a sentence to look for"), Words(zh="字词…", en="QUERY…")
    ),
    "within": ParameterWords(
        Words(zh="只在这个文件或文件夹里找，可以写多个", en="only in this file or folder; may be given more than once"),
        Words(zh="路径", en="PATH"),
    ),
    "tagged": ParameterWords(
        Words(zh="只找有这个标签的文件；写多个则须都有", en="only files with this tag; of several, with all of them"),
        Words(zh="标签", en="TAG"),
    ),
    "pages": ParameterWords(
        Words(zh="只找这一页或这几页，如 3 或 3-5", en="only this page or these, such as 3 or 3-5"),
        Words(zh="页", en="PAGES"),
    ),
    "since": ParameterWords(
        Words(zh="只找这一天或之后改过的文件，如 2025-01-31", en="only files changed on this day or later"),
        Words(zh="日期", en="DATE"),
    ),
    "until": ParameterWords(
        Words(zh="只找这一天或之前改过的文件", en="only files last changed on this day or before"),
        Words(zh="日期", en="DATE"),
    ),
    "judged": ParameterWords(
        Words(
            zh="知道答案或出处的问题：SQuAD 格式的 JSON，或每行一个 JSON（question 与 answer、source、page、context）；"
            "- 为标准输入",
            en="questions with their answers or sources: JSON in SQuAD's layout, or an object a line (question and "
            "answer, source, page or context); - is standard input",
        ),
        Words(zh="文件", en="FILE"),
    ),
    "k": ParameterWords(
        Words(
            zh="看前几个段落，如 5 或 1,5,10（默认）", en="among how many passages, such as 5, or 1,5,10, the default"
        ),
        Words(zh="个数,…", en="K,…"),
    ),
    "contexts": ParameterWords(
        Words(
            zh="不用自己的知识库，而用文件里的原文（context）临时建一个",
            en="not your library: one made for a while of the texts (context) in the file",
        )
    ),
    "engine": ParameterWords(
        Words(
            zh="服务的种类：vllm、llama-server（默认）或 llama-cpp-python",
            en="the kind of server: vllm, llama-server (the default) or llama-cpp-python",
        ),
        Words(zh="名称", en="NAME"),
    ),
    "host": ParameterWords(
        Words(zh="监听的地址；默认 127.0.0.1，只有本机", en="address to listen at; 127.0.0.1, this machine only"),
        Words(zh="地址", en="ADDRESS"),
    ),
    "port": ParameterWords(
        Words(zh="监听的端口；默认 8080，vllm 等为 8000", en="port to listen at; 8080, or 8000 for vllm and Python"),
        Words(zh="端口", en="PORT"),
    ),
    "kv_type": ParameterWords(
        Words(
            zh="键值缓存的类型：f16（默认）、q8_0 或 q4_0",
            en="how keys and values are held: f16 (the default), q8_0 or q4_0",
        ),
        Words(zh="类型", en="TYPE"),
    ),
    "document": ParameterWords(
        Words(zh="只删除来自这个文件或文件夹的", en="only what is from this file or folder"),
        Words(zh="路径", en="PATH"),
    ),
    "size": ParameterWords(
        Words(
            zh="上限，如 20G 或 500M；0 表示什么都不保留；省略则显示现在的上限",
            en="the limit, such as 20G or 500M; 0 keeps nothing; without it the present one is shown",
        ),
        Words(zh="[大小]", en="[SIZE]"),
    ),
    "to": ParameterWords(
        Words(zh="新知识库的文件夹；原来的不会改动", en="folder of the new library; the old one is not changed"),
        Words(zh="文件夹", en="DIR"),
    ),
    "file": ParameterWords(
        Words(zh="写入的文件；省略则写到标准输出", en="file to write; standard output without it"),
        Words(zh="[文件]", en="[FILE]"),
    ),
    "library": ParameterWords(Words(zh="知识库所在的文件夹", en="folder of the library"), Words(zh="文件夹", en="DIR")),
    "model": ParameterWords(
        Words(
            zh="模型的名称或路径；默认 extractive，只摘录原句",
            en="name or path of the model; extractive, the default, quotes only",
        ),
        Words(zh="名称|路径", en="NAME|PATH"),
    ),
    "window": ParameterWords(
        Words(zh="上下文窗口，单位词元，如 16384 或 16K", en="context window in tokens, such as 16384 or 16K"),
        Words(zh="词元数", en="N"),
    ),
    "strategy": ParameterWords(
        Words(
            zh="auto（按词元数选择）、stuff（一次放入窗口）或 map_reduce（分段再合并）",
            en="auto (by counting tokens), stuff (all in one prompt) or map_reduce (in parts, then merged)",
        ),
        Words(zh="策略", en="NAME"),
    ),
    "no_cache": ParameterWords(
        Words(
            zh="这一次不使用、也不保留磁盘上的提示词开头",
            en="neither use nor keep the beginnings of prompts on disk this time",
        )
    ),
    "json": ParameterWords(
        Words(
            zh="只在标准输出上打印一个 JSON 文档，出错时也是",
            en="print exactly one JSON document on standard output, errors included",
        )
    ),
    "install_completion": ParameterWords(
        Words(zh="为当前的 shell 装上 Tab 补全", en="install completion by Tab for this shell")
    ),
    "show_completion": ParameterWords(
        Words(zh="显示补全脚本，可自行安装", en="show the completion script, to install it by hand")
    ),
    "version": ParameterWords(Words(zh="显示版本", en="show the version")),
    "help": ParameterWords(Words(zh="显示这份说明", en="show this help")),
}
