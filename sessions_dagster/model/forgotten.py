"""The users who are to be forgotten: known by hashes of their ids only."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final


@dataclass(frozen=True)
class ForgottenUsers:
    """The list of the users who are forgotten.

    Attributes:
        salt: What stands before an id when it is hashed; the same for all users of a warehouse.
        hashes: A hash for each user, in hexadecimal digits.
        table: The id of the table that has the list.
        version: Its version.
    """

    salt: str
    hashes: frozenset[str]
    table: str
    version: int

    def hash_of(self, user: str) -> str:
        """The hash that stands for a user in the list."""
        return sha256(f"{self.salt}{user}".encode()).hexdigest()


NOBODY: Final = ForgottenUsers("", frozenset(), "", -1)
"""The list of a warehouse that has none."""
