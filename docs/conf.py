"""How the manual is built: ``make docs``, which takes the pictures first; `docs/pages.py` makes some of its pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402
import scopecast  # noqa: E402

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

project = "scopecast"
author = copyright = "The scopecast developers"  # noqa: A001 - Sphinx's name
version = release = scopecast.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generated", "_pictures"]
templates_path: list[str] = []

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"scopecast {version}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"


def _keep_out_of_navigation(app: Sphinx, _: document) -> None:
    """Leave a decision out of the navigation, which stands on every page: there are a hundred, and they have a page."""
    if app.env.docname.startswith("decisions/0"):
        app.env.metadata[app.env.docname]["orphan"] = ""


def setup(app: Sphinx) -> None:
    """Have Sphinx call what is ours."""
    app.connect("doctree-read", _keep_out_of_navigation)


pages.write(HERE / "_generated")
pages.require_pictures(HERE)
