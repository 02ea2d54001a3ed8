"""Causal language models: requests are packed into rows that hold shared prefixes once."""
