"""Texts that some program or other takes for more than text. All of them are harmless where they are only data."""

from typing import Final

TEXTS: Final = (
    "'; DROP TABLE sessions; --",
    "' OR '1'='1",
    "`; SELECT 1; `",
    '") UNION SELECT * FROM delta.`/etc/passwd` --',
    "${env:HOME}",
    "${spark.app.name}",
    "{{ config.secret }}",
    "$(touch /tmp/x)",
    "`touch /tmp/x`",
    "%s%n%(user)s {0} {user!r}",
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '"><svg onload=window.hacked=1>',
    "[link](javascript:window.hacked=1)",
    "**bold** | cell | `code` | # head",
    "[red]rich[/red]",
    "<!channel> <https://example.com|here>",
    '=HYPERLINK("https://example.com";"here")',
    "+1+1",
    "@SUM(1)",
    "=cmd|' /C calc'!A0",
    "../../etc/passwd",
    "C:\\Windows\\x",
    "\\",
    "\\u0041\\n",
    "null",
    "NULL",
    "true",
    "NaN",
    "-0.0",
    "1e400",
    "a#b#2025-09-20T00:00:00.000Z",
    "line\nfeed",
    "carriage\rreturn",
    "tab\tand \x0b\x0c",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "bell\x07 back\x08space",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "\u2028line\u2029paragraph",
    "\ufeffmark",
    " blank ",
    "e\u0301 and \u00e9",
    "\U0001f600",
    "x" * 5000,
)

ON_PAGES: Final = tuple(text for text in TEXTS if text.isprintable() and text == text.strip() and len(text) < 100)
"""Those that a page shows as they are, and that can be searched for there."""

IN_NAMES: Final = tuple(text.replace("/", "|") for text in TEXTS if len(text) < 100)
"""Those that can be in the name of a file."""
