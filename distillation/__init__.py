"""The work of the 20-step plan: character prompt distillation. Knows nothing of the runner."""
