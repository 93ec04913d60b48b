"""Tests of a pytest plugin run pytest."""

pytest_plugins = ["pytester"]
