"""One module per kind of main."""
