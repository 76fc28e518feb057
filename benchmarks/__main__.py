"""Run benchmarks: ``python -m benchmarks`` runs all, ``python -m benchmarks NAME…`` those named.

Each runs in a process of its own, so that none measures what another left in memory. The exit code is
1 when a benchmark broke; a figure short of its target is printed and counted, and is no failure of the run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main(wanted: list[str]) -> int:
    """Run the wanted benchmarks in turn and count their figures."""
    known = {path.stem.removeprefix("bench_"): path.stem for path in sorted(FOLDER.glob("bench_*.py"))}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    figures: list[str] = []
    broken: list[str] = []
    for name in wanted or known:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{known[name]}"]
        with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith("bench: ") and "=" in line:
                    figures.append(line)
        if process.returncode:
            broken.append(name)
    short = sum(line.rstrip().endswith(" short") for line in figures)
    print(
        f"{len(figures)} figures, {short} short of their target" + (f"; broken: {', '.join(broken)}" if broken else "")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
