"""How definitions are written: shapes, rules between keys, and their mistakes in words."""
