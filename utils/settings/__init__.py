"""Every setting and its checks; JSON files, the command line, completion, schema."""

import python_check  # noqa: F401 (first: it exits where Python is too old)
