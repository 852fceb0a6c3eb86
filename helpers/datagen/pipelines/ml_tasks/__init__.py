"""Machine-learning tasks on synthetic data, of the task templates of this project."""
