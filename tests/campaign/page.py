"""A report's page as a browser would see it, without one. Not a test."""

from __future__ import annotations

import html.parser


class Page(html.parser.HTMLParser):
    """Visible text, and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loads: list[str] = []
        self.styles = ""
        self._in: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "style", "title"}:
            self._in.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "data", "srcset", "poster"} and value:
                self.loads.append(f"{tag} {name} {value}")

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if self._in[-1:] == ["style"]:
            self.styles += data
        elif not self._in and data.strip():
            self.text.append(data.strip())
