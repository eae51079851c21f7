"""Many pictures and many models: what is kept of each report, and what it adds up to.

from reportgen.surveys.tally import Tally
from reportgen.surveys.survey import survey_of
"""
