"""Causal language models: requests are packed into rows in which shared prefixes occur once."""
