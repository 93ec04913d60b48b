"""What happened: journal, state, ticks. No pytest."""
