"""The outbox: alerts that are still to be delivered, by channel. A channel that fails holds up no other one."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Final

from sessions_dagster.alerts.channels import TIMEOUT_SECONDS, Channel, DeliveryError
from sessions_dagster.alerts.message import Alert

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
            log.warning("Alerts by %s: %d more wait for the next tick.", channel.name, len(left))
            return left
        try:
            channel.send(alert)
        except Exception as error:
            # Whatever a channel raises: if the tick failed for it, all other channels would be told again. The text of
            # an error that is not our own may have a secret in it.
            reason = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            kept = left[-MAX_WAITING:]
            lost = f" The oldest {len(left) - len(kept)} are dropped." if len(left) > len(kept) else ""
            log.warning(
                "Alerts by %s cannot be delivered: %s. %d wait for the next tick.%s",
                channel.name,
                reason,
                len(kept),
                lost,
            )
            return kept
        log.info("Told by %s: %s", channel.name, alert.title)
    return []
