"""The baseline agent and the tabular solver that it shares with the replay model."""

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest
from agent_support import AGENTS, USAGE, Grading
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor


@pytest.fixture
def baseline(make_world, grading):
    """Runs the agent on a folder of data; returns its world, exit code, stdout and stderr."""

    def run(data, **variables):
        world = make_world("baseline", data=data, **variables)
        world.publish(GRADING_SERVER=grading.url, GRADING_TOKEN=grading.token)
        world.start()
        return world, *world.finish()

    return run


def solve(folder, make_model=None, seed=0):
    """The solver alone, by default with a quick model: its metric, its score and its submission."""

    def tree(classify, seed):
        return (DecisionTreeClassifier if classify else DecisionTreeRegressor)(max_depth=3, random_state=seed)

    metric, score = load("tabular").solve(folder, folder / "out.csv", make_model or tree, seed)
    return metric, score, pd.read_csv(folder / "out.csv", dtype=str)


def load(name):
    """One of the agent's modules, which are no package."""
    spec = importlib.util.spec_from_file_location(name, AGENTS / "common" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task(folder, train, sample, test=None):
    folder.mkdir(parents=True)
    train.to_csv(folder / "train.csv", index=False)
    test = (
        test if test is not None else train.drop(columns=[c for c in sample if c in train and c != sample.columns[0]])
    )
    test.to_csv(folder / "test.csv", index=False)
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


def numbers(count=120):
    return pd.DataFrame({"id": range(count), "x": [n % 12 for n in range(count)], "w": ["u", "v"] * (count // 2)})


def test_it_leaves_what_every_agent_leaves(baseline, data, grading):
    world, code, out, err = baseline(data)
    assert (code, err) == (0, "")
    submission = pd.read_csv(world.submission, dtype=str)
    sample = pd.read_csv(data / "sample_submission.csv", dtype=str)
    assert list(submission["Id"]) == list(sample["Id"]) and set(submission["Out"]) == {"True", "False"}
    assert world.logged("usage.json") == USAGE
    node = world.logged("journal.json")["nodes"][0]
    assert 0.7 < node["metric"]["value"] <= 1 and node["metric"]["maximize"] and not node["is_buggy"]
    assert {path.name for path in world.folder["CODE"].iterdir()} == {"baseline.py", "tabular.py"}
    assert "step 1/1: accuracy" in out and "Submission is valid." in out
    assert [call["path"] for call in grading.calls] == ["/validate"]
    assert world.leftovers() == {}


def test_the_seed_decides(tmp_path, data):
    folder = shutil.copytree(data, tmp_path / "copy")
    first, again, other = (solve(folder, load("baseline").make_model, seed) for seed in (1, 1, 2))
    assert first[1] == again[1] != other[1]
    assert first[2].equals(again[2])


def test_a_task_that_is_no_table(baseline, tmp_path, data):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(data / "train.csv", images)
    world, code, out, err = baseline(images)
    assert code == 1 and err.count("\n") == 1
    assert "no test.csv, sample_submission.csv" in err
    assert not world.submission.exists()


def test_a_table_that_does_not_fit(baseline, tmp_path):
    frame = numbers().assign(y=0)
    folder = task(tmp_path / "t", frame, frame[["id"]].assign(neither=0), test=frame.drop(columns="y"))
    world, code, out, err = baseline(folder)
    assert code == 1 and err.count("\n") == 1 and "neither" in err
    assert not world.submission.exists()


def test_labels_keep_their_spelling(tmp_path):
    for name, spelling in {"words": ["yes", "No"], "zeros": ["01", "02"], "lower": ["true", "false"]}.items():
        frame = numbers().assign(y=lambda f, s=spelling: [s[x > 5] for x in f["x"]])
        metric, score, out = solve(task(tmp_path / name, frame, frame[["id"]].assign(y=spelling[0])))
        assert (metric, score) == ("accuracy", 1.0)
        assert list(out["y"]) == list(frame["y"])


def test_numbers(tmp_path):
    frame = numbers().assign(y=lambda f: f["x"] * 2.5 + f["id"] / 1000)
    metric, score, out = solve(task(tmp_path / "t", frame, frame[["id"]].assign(y=0.0)))
    assert metric == "rmse" and score < 2
    assert (out["y"].astype(float) - frame["y"]).abs().max() < 4


def test_probabilities_where_the_sample_has_some(tmp_path):
    frame = numbers().assign(y=lambda f: (f["x"] > 5).astype(int))
    metric, score, out = solve(task(tmp_path / "t", frame, frame[["id"]].assign(y=0.5)))
    assert (metric, score) == ("roc_auc", 1.0)
    assert out["y"].astype(float).between(0, 1).all() and (out["y"].astype(float).round() == frame["y"]).all()


def test_a_column_for_each_class(tmp_path):
    frame = numbers().assign(kind=lambda f: ["low" if x < 4 else "mid" if x < 8 else "high" for x in f["x"]])
    sample = frame[["id"]].assign(mid=0.3, low=0.3, high=0.3)
    metric, score, out = solve(task(tmp_path / "t", frame, sample, test=frame.drop(columns="kind")))
    assert metric == "log_loss" and score < 0.1
    assert list(out.columns) == ["id", "mid", "low", "high"]
    assert (out.drop(columns="id").astype(float).idxmax(axis=1) == frame["kind"]).all()


def test_several_targets_and_rows_in_another_order(tmp_path):
    frame = numbers().assign(y=lambda f: f["x"] * 1.1, z=lambda f: f["w"])
    sample = frame[["id"]].assign(y=0.0, z="u").iloc[::-1]
    metric, score, out = solve(task(tmp_path / "t", frame, sample))
    assert list(out["id"]) == list(sample["id"].astype(str))
    assert list(out["z"]) == list(frame["w"])[::-1]


def test_odd_columns(tmp_path):
    """Empty columns, texts in one half only, infinitely many categories, rare classes, rows without a target."""
    frame = numbers().assign(
        empty=None,
        names=lambda f: "name " + f["id"].astype(str),
        half=lambda f: f["x"],
        y=lambda f: [
            "rare" if n == 7 else None if n == 8 else "a" if x > 5 else "b"
            for n, x in zip(f["id"], f["x"], strict=True)
        ],
    )
    test = frame.drop(columns="y").assign(half="text", w="unseen")
    metric, score, out = solve(task(tmp_path / "t", frame, frame[["id"]].assign(y="a"), test=test))
    assert metric == "accuracy" and score > 0.9 and len(out) == len(frame) and out["y"].notna().all()
    bare = frame[["id", "y"]]
    assert solve(task(tmp_path / "bare", bare, bare[["id"]].assign(y="a")))[0] == "accuracy"


def test_the_verdict_does_not_decide_the_exit_code(make_world, data):
    """A grading server that is away is the host's matter; the submission is there."""
    world = make_world("baseline", data=data, VALIDATE_SECONDS="2")
    away = Grading()
    away.close()
    world.publish(GRADING_SERVER=away.url, GRADING_TOKEN="t")
    world.start()
    code, out, err = world.finish()
    assert code == 0 and "no answer from the grading server" in err
    assert world.submission.is_file()


def halves(folder, frame, targets, test_rows, **arrays):
    """A task from one table: its last `test_rows` rows are the test set; arrays are cut at the same row."""
    train, test = frame.iloc[:-test_rows], frame.iloc[-test_rows:].drop(columns=targets)
    sample = test[["id"]].assign(target=0)
    task(folder, train, sample, test=test)
    for name, values in arrays.items():
        np.save(folder / f"train_{name}.npy", values[:-test_rows])
        np.save(folder / f"test_{name}.npy", values[-test_rows:])
    return folder


def right(out, frame):
    truth = frame["target"].iloc[-len(out) :].astype(str)
    return (out["target"].to_numpy() == truth.to_numpy()).mean()


def test_long_texts_are_features(tmp_path):
    words = np.random.default_rng(0).choice(["red", "green", "blue", "tree"], (200, 12))
    words[::2, 3], words[1::2, 3] = "apple", "stone"
    frame = pd.DataFrame({"id": range(200), "text": [" ".join(row) for row in words], "target": [0, 1] * 100})
    out = solve(halves(tmp_path / "t", frame, ["target"], 40))[2]
    assert right(out, frame) > 0.95


def test_arrays_are_features_row_by_row(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, 240)
    images = np.random.default_rng(1).integers(0, 60, (240, 12, 12, 1)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 4 * label : 4 * label + 4] += 150
    frame = pd.DataFrame({"id": range(240), "target": labels})
    out = solve(halves(tmp_path / "t", frame, ["target"], 60, images=images))[2]
    assert right(out, frame) > 0.95


def test_dates_are_features_and_the_future_is_foretold(tmp_path):
    days = pd.date_range("2020-01-01", periods=400, freq="D")
    values = 100 + 0.5 * np.arange(400) + 20 * (days.day_of_week == 6)
    frame = pd.DataFrame({"id": range(400), "date": days.astype(str), "target": values})
    metric, score, out = solve(halves(tmp_path / "t", frame, ["target"], 80), lambda classify, seed: LinearRegression())
    assert metric == "rmse" and 0 < score < 10
    assert np.abs(out["target"].astype(float) - values[-80:]).mean() < 5


def test_without_labels_the_rows_are_grouped(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, 300)
    centers = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    points = centers[labels] + np.random.default_rng(1).normal(size=(300, 2))
    frame = pd.DataFrame({"id": range(300), "x": points[:, 0], "y": points[:, 1], "target": labels})
    folder = halves(tmp_path / "t", frame.drop(columns="target"), [], 60)
    metric, score, out = solve(folder)
    assert metric == "silhouette" and score > 0.5
    assert adjusted_rand_score(labels[-60:], out["target"]) > 0.95
