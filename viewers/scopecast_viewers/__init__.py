"""The receivers of scopecast: viewers that show what a publisher streams."""
