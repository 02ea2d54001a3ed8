"""Models behind an endpoint: formats of requests, what a server supports, and its answers."""
