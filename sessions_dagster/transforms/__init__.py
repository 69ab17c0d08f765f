"""DataFrame to DataFrame: everything that decides which row, which session and which correction there is.

Here belong pure transforms and the expressions they share. They use no file and no table, and they do not write. When
something is computed, and in which order, is decided in `pipeline`.
"""
