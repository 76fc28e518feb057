"""Optional data to test on, which stands beside the checkout and is never copied into it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def shared_data(name: str) -> Path:
    """The path of ``name`` in the shared data; the calling test is skipped where it does not exist."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs shared data that is not on this machine: {name}")
    return path
