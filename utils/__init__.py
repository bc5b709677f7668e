"""What every other room uses: settings, logging, checkpoints, PyTorch helpers."""

# train.py looks for this mark: `utils` is a common name, and another one may come first on sys.path.
PROJECT = "return-decomposition"
