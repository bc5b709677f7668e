"""The ground that every other package uses: settings, errors, text, files, checkpoints, PyTorch helpers."""

# program.py looks for this mark: `utils` is a common name, and another one may come first on sys.path.
PROJECT = "return-decomposition"
