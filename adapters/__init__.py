"""Other people's libraries: their models converted to this package's, their data sets paid anew."""

import python_check  # noqa: F401 (first: it exits where Python is too old)
