"""The code location that is soaked: the product's, with a sensor that ticks as often as the daemon looks.

With its own half a minute, a soak would mostly wait for the next tick.
"""

from typing import Final

from sessions_dagster.definitions import defs
from sessions_dagster.defs.sensors import SENSOR_NAME

_TICK_SECONDS: Final = 5

for sensor in defs.sensors or ():
    if sensor.name == SENSOR_NAME:
        # Dagster takes it when the sensor is defined only.
        sensor._min_interval = _TICK_SECONDS

__all__ = ["defs"]
