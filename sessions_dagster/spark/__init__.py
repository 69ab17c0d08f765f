"""A Spark that works with Delta on the machine at hand: Java, JARs, session properties, and how a run is tuned.

Here belongs what any Delta project needs of Spark. Nothing here knows of events.
"""
