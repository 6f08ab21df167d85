"""Run every soak programme, or those named on the command line."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from benchmarks import soak


def main() -> None:
    """`python -m benchmarks.soak [NAME ...]`."""
    known = sorted(module.name for module in pkgutil.iter_modules(soak.__path__) if module.name != "__main__")
    for name in sys.argv[1:] or known:
        programme = importlib.import_module(f"benchmarks.soak.{name}")
        print(f"== {name}: {(programme.__doc__ or '').splitlines()[0]}", flush=True)
        programme.run()


if __name__ == "__main__":
    main()
