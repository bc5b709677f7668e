# make train   set up .venv and run the main job, five to fifteen minutes on two cores
# make test    set up .venv and run the tests, files side by side (WORKERS=2)
# make test-wheel   most of the tests on the installed wheel, in a virtual environment of its own
# make test-slow    the tests that `make test` leaves out because they take long
# make lint    style checks
# make parity  tables of how close PyTorch, TensorFlow 2 and the original are to each other
# make oldest  the tests, on the oldest versions that setup.py allows (their PyTorch is gigabytes)
# make bench   speed on this machine beside others' and its own ceiling, ten minutes; docs/performance.md
# make torture a run killed 200 times, also while it saves, which must end as an undisturbed run; ten minutes
# make docs    the documentation as a site, to read in a browser
# make soak    an hour of training, whose memory must not grow

PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready
WORKERS ?= 2

.PHONY: train test test-wheel test-slow parity lint docs oldest bench torture soak clean

train: $(READY)
	@cat configs/quickstart.txt
	$(BIN)/python train.py --config configs/quickstart.json

parity: $(READY)
	$(BIN)/python tests/parity.py

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

test-wheel: $(READY)
	$(BIN)/python tests/wheel_suite.py --workers=$(WORKERS)

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

lint: $(READY)
	$(BIN)/ruff check .

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "written to build/docs; open build/docs/index.html in a browser"

oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[test]'
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n $(WORKERS) --dist loadfile

bench: $(READY)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/backends.py

torture: $(READY)
	$(BIN)/python tests/torture.py --kills 200

soak: $(READY)
	$(BIN)/python tests/soak.py --seconds 3600

$(READY): setup.py setup_wheel.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"make: {sys.executable} is Python {sys.version.split()[0]}, expected 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(READY)

clean:
	rm -rf .venv .venv-oldest build *.egg-info
