"""The local servers: one interface to Docker, this machine's own programs and a Debian root folder."""
