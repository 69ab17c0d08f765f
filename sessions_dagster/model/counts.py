"""Counts as people read them: `1 row`, `1,204 rows`."""


def number_of(count: int, one: str, many: str | None = None) -> str:
    """How many there are, with their name in the singular or in the plural.

    Args:
        count: How many there are.
        one: What a single one is called.
        many: What several of them, or none, are called; by default the singular with an `s`.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
