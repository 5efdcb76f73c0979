"""Explore a study's trials: run it cell by cell (VS Code, PyCharm, Spyder, Jupytext) or as a whole.

Run:  .venv/bin/python scripts/explore.py quickstart    (after: mnist-hpo run studies/quickstart.yaml)
"""

# %% One row per trial; help(mnist_hpo.load_trials) describes the columns.
import sys

import pandas as pd

import mnist_hpo

NAME = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "quickstart"
trials = mnist_hpo.load_trials(NAME)
print(trials.dtypes)

# %% The best trials.
complete = trials[trials["state"] == "complete"]
print(complete.nsmallest(5, "valid_loss").drop(columns=["reason", "started_at", "finished_at"]).T.to_string())

# %% Which hyperparameters correlate with the loss? Spearman's rank correlation detects any monotonic relation.
searched = list(trials.columns[3 : trials.columns.get_loc("valid_loss")])
numeric = [name for name in searched if pd.api.types.is_numeric_dtype(trials[name])]
ranks = complete[[*numeric, "valid_loss"]].astype("float64").rank()
print(ranks.corr()["valid_loss"].drop("valid_loss").sort_values(key=abs, ascending=False).round(2))

# %% The cost of the trials, by their final state.
print(trials.groupby("state", observed=True)[["n_epochs", "seconds", "compile_s", "train_flops"]].sum())

# %% A plot (a notebook shows a cell's last value).
first = numeric[0]
axes = complete.plot.scatter(
    x=first, y="valid_loss", c="seconds", colormap="viridis", logx=bool((trials[first] > 0).all())
)
axes.get_figure()
