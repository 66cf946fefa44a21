# `make demo` trains both stages, and colours photographs with them and with the generator that comes with gan_color:
# the picture is checkpoints/demo/compared.jpg; `make test` runs the tests, `make test-full` those of
# tests/reliability at full size, too, and prints the table of docs/reliability.md.
# `make test-browser` runs those that drive Chromium, which `make test` runs too where it is installed.
# `make bench PHOTOS=folder` measures speed and memory beside the way of the public tutorial: docs/performance.md.
# Each target sets up .venv itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := checkpoints/demo

.PHONY: demo test test-full test-browser bench lint format clean

# Written last, so that an installation cut short is done again.
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gan_color needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	rm -rf $(DEMO)
	$(BIN)/python train_pretrain.py --out $(DEMO)/pretrain
	$(BIN)/python train_gan.py --generator $(DEMO)/pretrain --out $(DEMO)/gan
	$(BIN)/gan-color colorize samples --checkpoint $(DEMO)/gan --output $(DEMO)/coloured
	$(BIN)/gan-color colorize samples --checkpoint general --output $(DEMO)/coloured-general
	$(BIN)/python docs/draw_grid.py $(DEMO)/pretrain $(DEMO)/gan general --photos samples --out $(DEMO)/compared.jpg
	@echo "look at $(DEMO)/compared.jpg: in grey, after each stage, by general, real"
	@echo "(the stages were trained on all of them but the motorcycle and the rocket)"

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-full: test
	$(BIN)/python benchmarks/reliability.py

test-browser: $(VENV)/.installed
	$(BIN)/python -m pytest -m browser

# An hour on 2 cores; each line stands alone.
bench: $(VENV)/.installed
	@test -d "$(PHOTOS)" || { echo "make bench PHOTOS=FOLDER: a folder of photographs to measure with"; exit 2; }
	$(BIN)/python benchmarks/training_step.py --grow
	$(BIN)/python benchmarks/data_path.py --data $(PHOTOS)
	$(BIN)/python benchmarks/colorize_photo.py $(PHOTOS)
	$(BIN)/python benchmarks/large_photo.py $(PHOTOS)
	$(BIN)/python benchmarks/same_curves.py --data $(PHOTOS)
	$(BIN)/python benchmarks/time_to_quality.py --data $(PHOTOS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
