"""Run every benchmark and print its ratios."""

from __future__ import annotations

from benchmarks import decode, flash, frames, gate


def main() -> None:
    """Each benchmark prints its own lines."""
    for benchmark in (frames, gate, decode, flash):
        print(f"== {(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
        benchmark.run()
        print(flush=True)


if __name__ == "__main__":
    main()
