"""The names that the specification imports from here."""

from helpers.tasks.generator import DataGenerator
from helpers.tasks.validator import TaskValidator

__all__ = ["DataGenerator", "TaskValidator"]
