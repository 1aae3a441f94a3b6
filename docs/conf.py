"""Configuration of the documentation site: ``make docs`` builds it into site/."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "grok_lightning"
author = "the grok_lightning developers"
copyright = author
version = release = "0.1.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated", "inspection"]
exclude_patterns = ["_ext", "_static"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
nb_execution_mode = "off"  # tests run the notebooks; the site shows what they printed

# every reference to something of this package must resolve; others' are not looked up, for there is no network
nitpicky = True
# other projects, and the inner rooms of sweep, which have no page
nitpick_ignore_regex = [(r"py:.*", r"(?!grok_lightning).*"), (r"py:.*", r"grok_lightning\.sweep\.(plan|run|show)\..*")]
suppress_warnings: list[str] = []

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
myst_fence_as_directive: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False  # the source lacks what constructors of measures gain, "every"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["ray"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
default_role = "code"

html_theme = "furo"
html_title = "grok_lightning"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2b5797", "color-brand-content": "#2b5797"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8", "color-brand-content": "#8ab4f8"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _escape(app, what, name, obj, options, lines) -> None:  # type: ignore[no-untyped-def]
    """Docstrings are plain text with ``code`` and sections: what reStructuredText would take for markup is escaped."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("``")
            parts[::2] = [re.sub(r"(?<=\w)\*|\*(?=[\w*])|\||(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            lines[place] = re.sub(r"^(\s*\w+: )(?=[A-Za-z]{1,4}\.(?:\s|$))", r"\1\\", "``".join(parts))  # no list


def setup(app) -> None:  # type: ignore[no-untyped-def]
    app.connect("autodoc-process-docstring", _escape, priority=400)  # before napoleon
