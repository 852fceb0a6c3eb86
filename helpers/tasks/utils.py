"""The names that the specification imports from here."""

from helpers.tasks.judging.validator import TaskValidator
from helpers.tasks.synthetic.generator import DataGenerator

__all__ = ["DataGenerator", "TaskValidator"]
