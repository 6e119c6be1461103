"""Sphinx configuration."""

import sklearn_ssvae

project = "sklearn_ssvae"
author = "the sklearn_ssvae developers"
version = release = sklearn_ssvae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
autosummary_generate = True
numpydoc_show_class_members = True
numpydoc_show_inherited_class_members = {
    "sklearn_ssvae.SSVAEClassifier": True,
    "sklearn_ssvae.SSVAEAnomalyDetector": True,
}
numpydoc_class_members_toctree = False
default_role = "code"
html_theme = "alabaster"
html_theme_options = {
    "description": "Semi-supervised variational autoencoders for scikit-learn",
    "page_width": "60rem",
}
exclude_patterns = ["_build"]
