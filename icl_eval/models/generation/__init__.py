"""How models generate text: searches over rows of log-probabilities, and the decoders that compute these rows."""
