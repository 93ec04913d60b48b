"""Showing it. Reads the events of the journal and decides nothing."""
