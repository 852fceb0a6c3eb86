"""Shows the Python API of tasks: define one, prepare its data, solve it, and validate the results with a metric of your own.

python examples/tasks/custom_task_example.py [FOLDER]      (default: a temporary folder)
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.linear_model import Ridge

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.lib import bounded  # noqa: E402
from helpers.tasks.definitions import Task  # noqa: E402
from helpers.tasks.synthetic.prepare import prepare  # noqa: E402
from helpers.tasks.utils import TaskValidator  # noqa: E402

TASK = Task.from_dict(
    {
        "id": "custom_regression",
        "name": "A regression of my own",
        "description": "Predict a number from eight others, with a model that is easy to explain.",
        "task_type": "custom",
        "data_requirements": {"dataset_type": "regression", "n_samples": 500, "n_features": 8, "noise": 5.0},
        "evaluation_criteria": {"min_r2": 0.8, "required_outputs": ["submission.csv", "coefficients.csv"]},
        "instructions": "Write the coefficients of your linear model to coefficients.csv: columns feature and coefficient.",
    }
)


class CustomValidator(TaskValidator):
    """Adds to the standard evaluation of tasks of the type custom how simple the model is."""

    def _evaluate_custom_task(self, task, results_dir):
        # an agent wrote it: it may be made to be slow, or huge, to read
        table = bounded.call(pd.read_csv, results_dir / "coefficients.csv", seconds=60, memory=2**30)
        coefficients = table["coefficient"]
        used = int((coefficients.abs() > 1).sum())
        return {
            "criteria_met": {"at_most_eight_features": used <= 8},
            "scores": {"simplicity": 1 - used / 16},
            "feedback": [f"the model uses {used} features"],
            "custom_metrics": {"features_used": used},
        }


def solve(public: Path, results: Path) -> None:
    """What an agent would do: it sees the public half only."""
    train, test = pd.read_csv(public / "train.csv"), pd.read_csv(public / "test.csv")
    features = [name for name in test.columns if name != "id"]
    model = Ridge().fit(train[features], train["target"])
    pd.DataFrame({"id": test["id"], "target": model.predict(test[features])}).to_csv(
        results / "submission.csv", index=False
    )
    pd.DataFrame({"feature": features, "coefficient": model.coef_}).to_csv(results / "coefficients.csv", index=False)


def main(folder: Path) -> int:
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    prepare(TASK, folder / "data")
    solve(folder / "data" / TASK.id / "prepared" / "public", results)
    evaluation = CustomValidator(folder / "data").evaluate_task(TASK, results)
    print(f"Overall Score: {evaluation['overall_score']:.2f}")
    print(f"Success: {evaluation['success']}")
    print("\n".join(evaluation["feedback"]))
    return 0 if evaluation["success"] else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
