"""Where tables are and how they are read and written: file systems, Delta tables, their logs, and the write itself.

Here belongs everything that knows how Delta Lake works. What the rows mean is decided in `transforms`.
"""
