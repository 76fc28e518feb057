"""Keeps dependencies from phoning home. Has to run before any of them is imported.

Some packages report their use, look for newer versions or send traces to a service unless an
environment variable says otherwise, and most of them read it once, when they are imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

#: The switches of Hugging Face's hub, unstructured, chromadb and ONNX Runtime, in that order.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "1",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
    "ANONYMIZED_TELEMETRY": "False",
    # ONNX Runtime sends events to Microsoft from 1.29 on, also where no model is its own; two names in its history.
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    # Not a connection but a lock: tokenizers' threads and a forked child do not go together.
    "TOKENIZERS_PARALLELISM": "false",
}

#: What switches LangChain's tracer, which sends prompts and answers away: the names that langsmith reads, in its
#: order (the first that is set decides), and one of older versions.
TRACING = (
    "LANGSMITH_TRACING_V2",
    "LANGCHAIN_TRACING_V2",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING",
    "LANGCHAIN_HANDLER",
)

ALLOW_TRACING = "ALPACA_RAG_ALLOW_TRACING"


def stay_offline(*, keep_tracing: bool | None = None, environment: MutableMapping[str, str] | None = None) -> None:
    """Set what is not set yet of ``QUIET``, and switch tracing off, in the process's own environment by default.

    A choice that the user made stays, with one exception: LangChain's tracer goes off even where the
    environment has it on, because it would send documents and answers to a service, unless
    ``ALPACA_RAG_ALLOW_TRACING=1`` or ``keep_tracing`` says otherwise.
    """
    variables = os.environ if environment is None else environment
    for name, value in QUIET.items():
        variables.setdefault(name, value)
    keep = tracing_allowed(variables) if keep_tracing is None else keep_tracing
    chosen = [name for name in TRACING if variables.get(name, "").strip()]
    if not (keep and chosen):
        # Beside a user's own switch, a second one could win over it: hence all of them or none.
        for name in (*chosen, "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING"):
            variables[name] = "false"


def tracing_allowed(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the user said that traces may leave the machine: ``ALPACA_RAG_ALLOW_TRACING=1``."""
    variables = os.environ if environment is None else environment
    return variables.get(ALLOW_TRACING, "").strip().lower() in {"1", "true", "yes", "on"}
