"""A schedule format of one's own: lines `from to start_s end_s rate_mbit_s delay_ms`."""

from __future__ import annotations

from pathlib import Path

from ground_controller.formats.plan import Contact, Imported, build_plan
from ground_controller.formats.registry import Format
from ground_controller.formats.text import read_text, refuse


def read(path: Path) -> Imported:
    contacts = []
    for line, text in enumerate(read_text(path, "give the path of a plan").splitlines(), start=1):
        try:
            source, target, start_s, end_s, rate_mbit_s, delay_ms = text.split()
            times = float(start_s), float(end_s)
            contacts.append(Contact(*times, source, target, float(rate_mbit_s) * 1e6, float(delay_ms) / 1e3, line=line))
        except ValueError:
            refuse(str(path), line, f"found {text[:40]!r}", "write: from to start_s end_s rate_mbit_s delay_ms")
    return build_plan(contacts, str(path))


LINES = Format("lines of contacts", read, None)
