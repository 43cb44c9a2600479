"""The command line: its commands, its output, and how errors are reported."""
