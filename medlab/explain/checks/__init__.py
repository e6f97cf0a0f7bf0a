"""Checks: what a heat map is worth.

In: heat maps, or methods that make them, with their model, images and masks. Out: scores a case, tables, verdicts.
"""
