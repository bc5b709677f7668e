"""The programs. A wheel has train.py and its siblings in this package; in a clone they are at the top."""
