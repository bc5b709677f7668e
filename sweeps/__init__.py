"""Many runs: suites, and the processes or Ray tasks that run them."""
