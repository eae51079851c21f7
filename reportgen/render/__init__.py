"""Readers of a report: HTML, PDF, and the files on disk. They show what stands in it, and no more.

from reportgen.render.writer import write_report, render_files
from reportgen.render.reader import read_report
"""
