PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: help demo test lint docs clean

help:  ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[plots,tests]'
	touch $@

demo: $(VENV)/.ready  ## run the quickstart; its pictures go to out/
	$(RUN) examples/quickstart.py

test: $(VENV)/.ready  ## run all tests and doctests
	SCIPY_ARRAY_API=1 $(RUN) -m pytest

lint: $(VENV)/.ready  ## check style
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

docs: $(VENV)/.ready  ## build the documentation into docs/_build
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(RUN) -m sphinx -W docs docs/_build

clean:  ## remove what the other targets made
	rm -rf $(VENV) out docs/_build
