"""Adapters of `algorithm.replay`: one file for each family of reference cases."""
