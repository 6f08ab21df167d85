"""The heat ramp of `hil study heat-ramp` as lines of text."""

from __future__ import annotations

from ground_controller.studies.heat_ramp import LIMITS, WAYS, Point, ramp


def run() -> None:
    """Four ways to meet the same ramp."""
    for precision, selection, options in WAYS:
        told = "".join(f", {key} {value}" for key, value in options.items())
        print(f"precision {precision}, selection {selection}{told} (soft limit {LIMITS.temperature_soft_c:g} C)")
        print(
            "  time s  sink C  hottest C  rows int4  experts a row  mass kept | text: experts  nats above  perplexity"
        )
        for p in ramp(precision, selection, 120, options):
            print(f"  {p.time_s:6.0f}  {p.sink_c:6.1f}  {p.temperature_c:9.1f}  {p.coarse:9.0%}  {p.experts:13.2f}"
                  f"  {p.mass:9.4f} | {p.read_experts:13.2f}  {p.nats:10.4f}  {p.perplexity:10.3f}")  # fmt: skip


__all__ = ["LIMITS", "WAYS", "Point", "ramp", "run"]
