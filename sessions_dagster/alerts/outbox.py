"""The outbox: alerts that are still to be delivered, by channel. A channel that fails holds up no other one."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Final

from sessions_dagster.alerts.channels import TIMEOUT_SECONDS, Channel, DeliveryError
from sessions_dagster.alerts.message import Alert

SEND_SECONDS: Final = 40
"""How long one delivery may take in all. A receiver that answers byte by byte is never silent for long.

One that needs longer may be told again. With `TIMEOUT_SECONDS` before it, a tick still ends within Dagster's minute.
"""

MAX_WAITING: Final = 100
"""How many alerts wait for one channel. If there are more, the oldest ones are dropped, with a line in the log."""


def deliver(
    waiting: Mapping[str, Sequence[Alert]], new: Sequence[Alert], channels: Sequence[Channel], log: logging.Logger
) -> dict[str, list[Alert]]:
    """Deliver through each channel what waits for it and what is new, in order and side by side.

    A channel that fails is tried again with the next call, and not before, so that it takes no time from the others.

    Args:
        waiting: By name of the channel, what earlier calls could not deliver. What waits for a channel that is gone is
            forgotten.
        new: What is to be told through every channel.
        channels: The channels.
        log: Gets a line for each channel that fails.

    Returns:
        What is still to be delivered.
    """
    if not channels:
        return {}
    todo = [[*waiting.get(channel.name, ()), *new] for channel in channels]
    with ThreadPoolExecutor(len(channels)) as pool:
        left = list(pool.map(_deliver, channels, todo, repeat(log)))
    return {channel.name: alerts for channel, alerts in zip(channels, left, strict=True) if alerts}


def _deliver(channel: Channel, alerts: Sequence[Alert], log: logging.Logger) -> list[Alert]:
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    for number, alert in enumerate(alerts):
        left = list(alerts[number:])
        if time.monotonic() > give_up_at:
            log.warning("Alerts by %s took long, so the next tick delivers the other %d.", channel.name, len(left))
            return left
        try:
            _send(channel, alert)
        except Exception as error:
            # Whatever a channel raises: if the tick failed for it, all other channels would be told again. The text of
            # an error that is not our own may have a secret in it.
            reason = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            kept = left[-MAX_WAITING:]
            lost = f" The oldest {len(left) - len(kept)} are dropped." if len(left) > len(kept) else ""
            log.warning(
                "Alerts by %s cannot be delivered: %s. The next tick tries again to deliver %d.%s",
                channel.name,
                reason,
                len(kept),
                lost,
            )
            return kept
        log.info("Told by %s: %s", channel.name, alert.title)
    return []


def _send(channel: Channel, alert: Alert) -> None:
    """Send an alert, and wait only so long for it: if a tick takes too long, Dagster forgets what it has told."""
    failed: list[Exception] = []

    def send() -> None:
        try:
            channel.send(alert)
        except Exception as error:
            failed.append(error)

    # A thread that nothing waits for: a pool would wait for it at the end of the process.
    thread = threading.Thread(target=send, name=f"alert by {channel.name}", daemon=True)
    thread.start()
    thread.join(SEND_SECONDS)
    if thread.is_alive():
        raise DeliveryError(f"it took longer than {SEND_SECONDS} s")
    if failed:
        raise failed[0]
