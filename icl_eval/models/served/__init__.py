"""Models behind an endpoint: requests to a server, which formats it supports, and its answers."""
