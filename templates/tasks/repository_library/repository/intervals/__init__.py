"""Lists of half-open intervals of whole numbers."""

from intervals.core import merge, total

__all__ = ["merge", "total"]
