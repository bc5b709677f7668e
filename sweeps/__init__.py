"""Many runs: suites, and the processes or Ray tasks that run them."""

import python_check  # noqa: F401 (first: it exits where Python is too old)
