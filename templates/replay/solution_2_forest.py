"""A random forest, which finds interactions that a linear model can't. Leaves hold at least two rows.
Preparation of the columns and the 5-fold cross-validation stay the same, so that scores can be compared."""

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor


def make_model(classify, seed):
    forest = RandomForestClassifier if classify else RandomForestRegressor
    return forest(n_estimators=60, min_samples_leaf=2, n_jobs=1, random_state=seed)
