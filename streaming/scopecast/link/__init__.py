"""Between a publisher and its receivers: messages, sockets, and waiting for them."""
