"""Updates of several seeds at once."""
