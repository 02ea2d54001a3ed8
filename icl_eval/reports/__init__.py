"""Reports: scores as tables, plots and pages."""

from icl_eval.reports.comparison import render_comparisons
from icl_eval.reports.curves import curves_of
from icl_eval.reports.figures import curve_figure, difference_figure
from icl_eval.reports.page import View
from icl_eval.reports.scaling import render_scaling
from icl_eval.reports.sweep import render_sweep
from icl_eval.reports.table import FORMATS, render

__all__ = [
    "FORMATS",
    "View",
    "curve_figure",
    "curves_of",
    "difference_figure",
    "render",
    "render_comparisons",
    "render_scaling",
    "render_sweep",
]
