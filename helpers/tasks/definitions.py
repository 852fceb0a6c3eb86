"""Task definitions: their schema, and the registry of all of them.

A definition is a JSON file; the registry is a directory of them, searched with its subdirectories: templates/tasks, and the
user's own (`paths.tasks` of the site, or --tasks-dir). Reading them costs no numpy: `list` is to be fast.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from helpers.config.layers import sentence, shown
from helpers.config.schema import NAME, Strict
from helpers.data import layout
from helpers.lib import strict_json
from helpers.lib.checkout import TASKS as TEMPLATES
from helpers.lib.errors import ConfigError

# Per dataset type: the keys of `data_requirements` that it takes, each with the parameter of DataGenerator's method that it
# becomes. The method is generate_<type>_dataset; METHODS names the ones that the specification calls otherwise.
DATASETS: dict[str, dict[str, str]] = {
    "classification": {
        "n_samples": "n_samples",
        "n_features": "n_features",
        "n_classes": "n_classes",
        "n_informative": "n_informative",
        "n_redundant": "n_redundant",
        "class_sep": "class_sep",
        "noise": "flip_y",
    },
    "regression": {
        "n_samples": "n_samples",
        "n_features": "n_features",
        "n_informative": "n_informative",
        "noise": "noise",
        "bias": "bias",
    },
    "time_series": {
        "n_samples": "n_samples",
        "n_features": "n_features",
        "trend": "trend",
        "seasonality": "seasonality",
        "noise": "noise_level",
    },
    "clustering": {
        "n_samples": "n_samples",
        "n_features": "n_features",
        "n_centers": "n_centers",
        "cluster_std": "cluster_std",
    },
    "text_classification": {
        "n_samples": "n_samples",
        "n_classes": "n_classes",
        "vocab_size": "vocab_size",
        "avg_doc_length": "avg_doc_length",
    },
    "missing_values": {"n_samples": "n_samples", "n_features": "n_features", "missing_rate": "missing_rate"},
    "imbalanced": {"n_samples": "n_samples", "n_features": "n_features", "imbalance_ratio": "imbalance_ratio"},
    "multi_modal": {
        "n_samples": "n_samples",
        "image_size": "image_size",
        "n_text_features": "n_text_features",
        "n_classes": "n_classes",
    },
    "image_classification": {
        "n_samples": "n_samples",
        "image_size": "image_size",
        "n_channels": "n_channels",
        "n_classes": "n_classes",
        "noise": "noise",
    },
}
METHODS = {"missing_values": "generate_tabular_dataset_with_missing_values"}
DEFAULT_METRICS = {
    "classification": "accuracy",
    "regression": "r2",
    "time_series": "mape",
    "clustering": "adjusted_rand",
    "text_classification": "accuracy",
    "missing_values": "accuracy",
    "imbalanced": "balanced_accuracy",
    "multi_modal": "accuracy",
    "image_classification": "accuracy",
}


class DataRequirements(Strict):
    """What a task's data are made of; each dataset type takes its own keys (DATASETS), others are errors.

    generate_synthetic false: the first of `copy_files`, a CSV file, is the table whose `target_column` is to be predicted.
    copy_files: paths relative to the definition's folder; the others lie beside the public data as they are.
    noise: share of wrong labels (classification), standard deviation (regression, images), or the part of the signal's range
    that is noise (time series). image_size: [height, width] in pixels. test_share: part of the rows that is hidden.
    """

    generate_synthetic: bool = True
    dataset_type: Literal[tuple(DATASETS)] | None = None  # type: ignore[valid-type]
    n_samples: int | None = Field(default=None, ge=20, le=100_000_000)
    n_features: int | None = Field(default=None, ge=1, le=10_000)
    n_classes: int | None = Field(default=None, ge=2, le=1000)
    n_informative: int | None = Field(default=None, ge=1)
    n_redundant: int | None = Field(default=None, ge=0)
    class_sep: float | None = Field(default=None, gt=0)
    noise: float | None = Field(default=None, ge=0)
    bias: float | None = None
    trend: bool | None = None
    seasonality: bool | None = None
    n_centers: int | None = Field(default=None, ge=2, le=1000)
    cluster_std: float | None = Field(default=None, gt=0)
    vocab_size: int | None = Field(default=None, ge=10)
    avg_doc_length: int | None = Field(default=None, ge=1)
    missing_rate: float | None = Field(default=None, ge=0, lt=1)
    imbalance_ratio: float | None = Field(default=None, gt=0, le=0.5)
    image_size: tuple[Annotated[int, Field(ge=4, le=1024)], Annotated[int, Field(ge=4, le=1024)]] | None = None
    n_channels: Literal[1, 3] | None = None
    n_text_features: int | None = Field(default=None, ge=1)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    copy_files: list[str] = []
    target_column: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> DataRequirements:
        if self.generate_synthetic and self.dataset_type is None:
            raise ValueError(f"generate_synthetic needs `dataset_type`, one of: {', '.join(DATASETS)}")
        if not self.generate_synthetic and self.copy_files and not self.target_column:
            raise ValueError("without generate_synthetic, `target_column` must name the column to predict")
        known = DATASETS.get(self.dataset_type or "", {}) if self.generate_synthetic else {}
        general = {"generate_synthetic", "dataset_type", "test_share", "copy_files", "target_column"}
        for key in sorted(self.model_fields_set - general - set(known)):
            kind = f"dataset_type {self.dataset_type}" if self.generate_synthetic else "generate_synthetic: false"
            raise ValueError(f"`{key}` means nothing for {kind}; it takes: {', '.join(known) or 'none of these keys'}")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword arguments of the generator's method, as far as the definition gives them."""
        given = {key: getattr(self, key) for key in DATASETS.get(self.dataset_type or "", {})}
        return {DATASETS[self.dataset_type][key]: value for key, value in given.items() if value is not None}

    @property
    def method(self) -> str:
        """Name of the method of DataGenerator that makes the data."""
        return METHODS.get(self.dataset_type, f"generate_{self.dataset_type}_dataset")


class EvaluationCriteria(Strict):
    """What counts as success. metric: a name of helpers/grading/graders.py (default by dataset type), the one that the task is graded by.

    min_*, max_*: bounds on metrics over the hidden labels; max_mape in percent. required_outputs: file names or patterns in
    the results. required_visualizations: images that open and aren't blank, no two alike. required_insights: findings with
    figures in the report. max_training_time: seconds that the agent may take. expected_clusters: groups in the submission.
    """

    metric: str | None = None
    min_accuracy: float | None = Field(default=None, ge=0, le=1)
    min_balanced_accuracy: float | None = Field(default=None, ge=0, le=1)
    min_f1_macro: float | None = Field(default=None, ge=0, le=1)
    min_roc_auc: float | None = Field(default=None, ge=0, le=1)
    min_r2: float | None = Field(default=None, le=1)
    min_adjusted_rand: float | None = Field(default=None, ge=-0.5, le=1)
    max_mape: float | None = Field(default=None, gt=0)
    max_rmse: float | None = Field(default=None, gt=0)
    max_mae: float | None = Field(default=None, gt=0)
    max_log_loss: float | None = Field(default=None, gt=0)
    expected_clusters: int | None = Field(default=None, ge=2)
    required_outputs: list[Annotated[str, Field(pattern=r"^[\w*?][\w.*?-]*$")]] = []
    required_visualizations: int | None = Field(default=None, ge=1, le=100)
    required_insights: int | None = Field(default=None, ge=1, le=100)
    max_training_time: int | None = Field(default=None, ge=1)

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | None) -> str | None:
        from helpers.grading.metrics import METRICS

        if metric is not None and metric not in METRICS:
            raise ValueError(f"must be one of: {', '.join(METRICS)}")
        return metric

    @property
    def bounds(self) -> dict[str, tuple[str, bool, float]]:
        """The bounds on metrics that are set: key -> (metric, whether it is a minimum, bound; mape as a fraction)."""
        found = {}
        for key in type(self).model_fields:
            kind, _, metric = key.partition("_")
            value = getattr(self, key)
            if value is not None and kind in ("min", "max") and key != "max_training_time":
                found[key] = (metric, kind == "min", value / 100 if metric == "mape" else value)
        return found


class Task(Strict):
    """A task's definition; estimated_time in seconds."""

    id: Annotated[str, Field(pattern=NAME)]
    name: str = Field(min_length=1)
    description: str = ""
    task_type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    estimated_time: int = Field(default=1800, ge=1)
    data_requirements: DataRequirements = DataRequirements(generate_synthetic=False)
    evaluation_criteria: EvaluationCriteria = EvaluationCriteria()
    instructions: str = ""
    expected_outputs: list[str] = []
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None

    @field_validator("id")
    @classmethod
    def _is_free(cls, task_id: str) -> str:
        if unfit := layout.unfit(task_id):
            raise ValueError(unfit)
        return task_id

    _folder: Path = TEMPLATES  # where the definition's file lies: what copy_files are relative to

    @model_validator(mode="after")
    def _metric_is_known(self) -> Task:
        data = self.data_requirements
        if not data.generate_synthetic and data.copy_files and self.evaluation_criteria.metric is None:
            raise ValueError("evaluation_criteria.metric must be set where the data are not synthetic")
        return self

    @property
    def metric(self) -> str | None:
        """The metric that the task is graded by; None for a task without data."""
        return self.evaluation_criteria.metric or DEFAULT_METRICS.get(self.data_requirements.dataset_type)

    @property
    def has_data(self) -> bool:
        """Whether there is anything to prepare; some tasks are only instructions."""
        return self.data_requirements.generate_synthetic or bool(self.data_requirements.copy_files)

    def to_dict(self) -> dict[str, Any]:
        """The definition as JSON holds it: the keys that were given."""
        return self.model_dump(mode="json", exclude_none=True, exclude_unset=True)

    @classmethod
    def from_dict(cls, data: dict[str, Any], source: str = "the definition") -> Task:
        """Check a definition. Raises ConfigError with every problem; `source` is what they name as its origin."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = []
            for item in error.errors():
                location = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
                problems.append(sentence(source, location, item, cls))
            raise ConfigError(problems) from error

    @classmethod
    def load(cls, path: str | Path) -> Task:
        """Read a definition. Raises ConfigError, which names the file and the key."""
        path = Path(path)
        data = strict_json.read(path, shown(path))
        task = cls.from_dict(data, shown(path))
        task._folder = path.resolve().parent
        return task

    def save(self, path: str | Path) -> None:
        """Write the definition, whole or not at all. Raises OSError."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
