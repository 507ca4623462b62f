"""Joules and grams: meters, the ledger's arithmetic, what-if comparisons."""
