"""The text of a report: sentences from templates, and rewordings that prove right."""
