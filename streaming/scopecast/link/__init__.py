"""Between a publisher and its receivers: the messages, the socket that they go by, and how one waits for them."""
