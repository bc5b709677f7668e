"""Equations as MathML, which browsers draw themselves: no script, and nothing from the network.

docutils translates them; what it does not know is a warning, and so an error of `make docs`.
"""

from __future__ import annotations

import functools
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)
# What docutils does not know, or sets otherwise than others do: it puts the index of an accented letter under it.
DIALECT = {r"(\\(?:bar|hat|tilde)\s*(?:\{\w\}|\w))_": r"\1^{}_", r"\\dots\b": r"\\ldots",
           r"\\([bB]igg?)(?=[(\[{|]|\\\{)": r"\\\1l", r"\\([bB]igg?)(?=[)\]}]|\\\})": r"\\\1r"}


def in_docutils_words(text: str) -> str:
    """The same equation, written as docutils knows it."""
    return functools.reduce(lambda text, rule: re.sub(*rule, text), DIALECT.items(), text)


def write(translator, node: nodes.math | nodes.math_block) -> None:
    """The equation of a node, as a block or within a line."""
    block, text = isinstance(node, nodes.math_block), in_docutils_words(node.astext())
    try:
        found = tex2mathml(text, as_block=block)
    except (MathError, IndexError, SyntaxError) as error:   # IndexError: a brace that is not closed
        log.warning("math: %s, in %s", error, text, location=node)
        found = translator.encode(text)
    translator.body.append(f'<div class="math">{found}</div>' if block else found)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (write, None), (write, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
