"""The local servers: one interface, and Docker, this machine's own programs or a Debian root folder behind it."""
