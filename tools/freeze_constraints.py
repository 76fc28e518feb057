"""Write constraints.txt from the environment this runs in, which must hold every extra and group.

Local version labels (``+cpu``) are dropped: the same version is then found as whatever build the
machine's index offers. Run ``make constraints`` after changing a dependency in pyproject.toml.
"""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# The versions that the project is built and tested with: pip install -c constraints.txt ...
# Written by `make constraints`; change pyproject.toml, not this file.
# torch: on machines without CUDA take the CPU build of this version
# (pip install --index-url https://download.pytorch.org/whl/cpu torch), which is gigabytes smaller.
"""
NOT_PINNED = {"chinese-alpaca-rag", "pip", "setuptools", "wheel"}


def main() -> None:
    """Collect the installed distributions and write the file beside pyproject.toml."""
    pins = {}
    for distribution in distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-")
        if name not in NOT_PINNED:
            pins[name] = distribution.version.partition("+")[0]
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    target = Path(__file__).resolve().parent.parent / "constraints.txt"
    target.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{target.name}: {len(lines)} versions")


if __name__ == "__main__":
    main()
