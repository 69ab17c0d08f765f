"""The names of the tables. Each is a folder right below the warehouse root."""

from typing import Final

TABLES: Final = ("raw_events", "rejected_events", "sessionized_events", "session_corrections", "sessions")

FORGOTTEN_USERS: Final = "forgotten_users"
"""The list that landings look users up in. It is none of `TABLES`: it has no events, and no upkeep."""
