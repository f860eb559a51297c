"""What `spillway status` shows of the streams and of the schedule. Nothing here changes anything."""
