"""A Spark that works with Delta on this machine: Java, JARs, session properties, and how a run is tuned.

Here belongs what every Delta project needs of Spark. Nothing here knows anything about events.
"""
