"""How Sphinx makes the documentation (`make docs`). Its source is the root of the repository, so links hold in both."""

project = "dfml"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "reproduce/**/README.md", "benchmarks/README.md"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"  # they are kept as they were run; tests/test_notebooks.py runs them anew

html_theme = "furo"
html_title = "dfml"
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # folders, which only the repository shows
default_role = "py:obj"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand in the docstrings
