"""What people see: scores as text for a terminal, as Markdown, LaTeX, CSV and JSON."""

from icl_eval.reports.comparison import render_comparison
from icl_eval.reports.page import View
from icl_eval.reports.sweep import render_sweep
from icl_eval.reports.table import FORMATS, render

__all__ = ["FORMATS", "View", "render", "render_comparison", "render_sweep"]
