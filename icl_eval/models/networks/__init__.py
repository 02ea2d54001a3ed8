"""Run a network of `transformers` on packed rows of shared prefixes: attention over them, and the prefix cache."""
