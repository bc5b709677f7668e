"""The programs. A wheel has train.py and its siblings in this package; in a clone they stand at the top."""
