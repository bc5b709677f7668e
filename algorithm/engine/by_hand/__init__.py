"""Updates whose gradients are written by hand."""
