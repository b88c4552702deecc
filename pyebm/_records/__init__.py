"""The arguments of every op, a named tuple each. pyebm/_schemas.py has the rules, and the ops by
name."""
