"""What the words of the contract mean: column names, table schemas, session rules, dates.

Here belongs what every other package may rely on. No Spark session is used here and no file is read; an import of
another package of this project does not belong here.
"""
