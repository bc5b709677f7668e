"""Arena: a shooting game of five phases, N games at once as tensors; docs/arena.md has the rules."""
