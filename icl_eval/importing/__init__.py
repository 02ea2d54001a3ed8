"""Import tasks of other harnesses as task files."""
