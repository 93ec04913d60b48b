"""Doing it: processes, checks, mains. No pytest."""
