"""Background jobs: their supervisor, what is known of them, and how they are started and ended."""
