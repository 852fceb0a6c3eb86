"""mlebench/utils.py."""

import importlib

import yaml


def load_yaml(path):
    assert path.exists(), f"File `{path}` does not exist."
    return yaml.safe_load(path.read_text())


def import_fn(text):
    module, name = text.split(":")
    return getattr(importlib.import_module(module), name)


def read_csv(*arguments, **options):
    import pandas

    return pandas.read_csv(*arguments, **options)


load_answers = read_csv
