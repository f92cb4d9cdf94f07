"""Wire protocols, pure: bytes in, events out. No clock, no socket, no logging; time enters as an event."""
