"""What any receiver does, without a viewer: the connection to a publisher; and programs that look at the frames."""
