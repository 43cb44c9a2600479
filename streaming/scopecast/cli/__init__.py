"""The command line: what a person types, what is said to them, and what a mistake of theirs is called."""
