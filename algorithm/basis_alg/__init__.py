"""The agents that a decomposition can stand on."""
