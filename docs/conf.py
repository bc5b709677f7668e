"""How Sphinx builds the site: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

project = "Return decomposition"
author = "the authors of return-decomposition"
html_title = "Return decomposition"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "math_as_mathml", "repository"]
root_doc = "index"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4            # links to headings as a code host makes them
myst_dmath_double_inline = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
smartquotes = False                 # --flags stay as they are
pygments_style = "friendly"
pygments_dark_style = "monokai"
highlight_language = "none"         # indented blocks are commands, or text

# Docstrings, unchanged.
autodoc_member_order = "bysource"
autodoc_typehints = "none"          # the docstrings say shapes and units, which types cannot
default_role = "code"               # `name`, as in comments
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
# Classes of other projects, whose documentation would have to be read over the network.
nitpick_ignore_regex = [("py:.*", r"(torch|numpy|np|nn|gymnasium|gym)\..*"), ("py:.*", r"(Tensor|Path)")]
