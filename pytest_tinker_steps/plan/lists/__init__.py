"""How people write task lists: blocks, ids, order, ticks."""
