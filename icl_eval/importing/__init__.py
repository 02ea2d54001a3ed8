"""Tasks of other harnesses as task folders of this one."""
