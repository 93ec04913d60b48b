"""Turn a Markdown task list into a pytest session."""

__version__ = "0.1.0"
