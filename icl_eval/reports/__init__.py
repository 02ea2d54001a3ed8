"""What people see: score lines as text for a terminal, Markdown, CSV and JSON."""

from icl_eval.reports.table import FORMATS, render

__all__ = ["FORMATS", "render"]
