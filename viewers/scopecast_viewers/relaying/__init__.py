"""The relay: keeps what is published on this machine, and sends it to desks on others."""
