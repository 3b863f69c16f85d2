"""Data: sources, decisions about files, duplicates, Dataset, Split, preprocessing."""
