"""Tune: the search over a recipe's fields by successive halving."""
