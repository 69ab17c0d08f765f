"""What senders deliver: the batch folders, the files in them, and the rows of these files, whatever their format.

Nothing here knows what has landed already, and no row is judged here except for whether it can be read.
"""
