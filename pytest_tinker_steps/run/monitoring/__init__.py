"""Monitors beside a main, and what their runs mean."""
