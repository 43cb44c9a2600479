"""``python -m scopecast``, and the command ``scopecast``."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from scopecast.cli.main import main as run  # takes a while, in which Ctrl-C is as good as later
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
