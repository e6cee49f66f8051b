"""A piece of HTML as a page of its own."""

from __future__ import annotations

from langchain_parallel_plus.display.markup import Html, text

__all__ = ("page",)


def page(title: str, body: Html) -> str:
    """Return a page that follows the reader's light or dark theme."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{text(title)}</title>\n'
        '<meta name="color-scheme" content="light dark">\n</head>\n'
        f'<body style="font-family:system-ui,sans-serif;margin:24px">\n{body}\n</body>\n</html>\n'
    )
