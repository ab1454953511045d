"""Markdown of sentences as HTML: paragraphs, lists, emphasis and links, without raw HTML and images."""

from functools import cache

from markdown_it import MarkdownIt


def block(text: str) -> str:
    """Return Markdown as HTML; raw HTML is shown as text."""
    return str(_parser().render(text))


def inline(text: str) -> str:
    """Return one line of Markdown as HTML without a paragraph around it."""
    return str(_parser().renderInline(text))


@cache
def _parser() -> MarkdownIt:
    # CommonMark without raw HTML; its validateLink refuses javascript: and data: addresses
    return MarkdownIt("commonmark", {"html": False}).disable("image")


def literal(label: str) -> str:
    """Return Markdown that shows a text literally."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]()#+-.!:~$|<>" else sign for sign in label)
