"""The programs that scopecast plugs into, one module each; a host is imported only when it is used."""
