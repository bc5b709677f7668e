"""Every setting and its checks; JSON files, the command line, completion, schema."""
