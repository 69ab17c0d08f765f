"""The names of the tables. Each is a folder right below the warehouse root."""

from typing import Final

TABLES: Final = ("raw_events", "rejected_events", "sessionized_events", "session_corrections", "sessions")
