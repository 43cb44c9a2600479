"""What `scopecast bench` measures, a module a kind of figure; see `scopecast.cli.bench`."""
