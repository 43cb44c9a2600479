"""``python -m scopecast``: the command line."""

from scopecast.cli import main

main()
