"""Private question answering and summarising over Chinese documents, offline, on LangChain.

::

    from chinese_alpaca_rag.llms import chat_alpaca                  # the models
    from chinese_alpaca_rag.ingest import load_documents             # files to passages
    from chinese_alpaca_rag.retrieval import LibraryRetriever        # passages for a question
    from chinese_alpaca_rag.chains import create_qa_chain, create_summarize_chain

Each room is imported by its own name and loads only what it uses.
"""
