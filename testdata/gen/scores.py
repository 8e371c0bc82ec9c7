"""Prints random predictions and what scikit-learn and SciPy make of them, as JSON.

    python scores.py --seed 1 > train/score/testdata/scores.json

Needs scikit-learn and scipy, in an environment of their own.
"""

import argparse
import json
import random
import warnings

from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    rng = random.Random(parser.parse_args().seed)
    warnings.simplefilter("ignore")

    out = {"classes": [], "labels": [], "numbers": []}
    for n, kinds in ((40, 4), (7, 5), (25, 2), (6, 1)):
        predicted = [rng.randrange(kinds) for _ in range(n)]
        right = [p if rng.random() < 0.6 else rng.randrange(kinds + 1) for p in predicted]
        out["classes"].append(
            {
                "predicted": predicted, "right": right,
                "accuracy": accuracy_score(right, predicted),
                "f1": f1_score(right, predicted, average="macro"),
                "f1_of_1": f1_score(right, predicted, labels=[1], average="macro", zero_division=0),
            }  # fmt: skip
        )
    for n, p in ((30, 0.4), (5, 0.0)):
        predicted = [rng.random() < p for _ in range(n)]
        right = [rng.random() < p for _ in range(n)]
        out["labels"].append({"predicted": predicted, "right": right, "f1": f1_score(right, predicted, zero_division=0)})
    for n, ties in ((30, False), (30, True), (5, True)):
        x = [rng.gauss(0, 1) for _ in range(n)]
        y = [v**3 + rng.gauss(0, 0.5) for v in x]
        if ties:
            x, y = [round(v) for v in x], [round(v, 1) for v in y]
        out["numbers"].append(
            {"x": x, "y": y, "pearson": pearsonr(x, y)[0], "spearman": spearmanr(x, y)[0], "mse": mean_squared_error(x, y)}
        )
    out["label_lists"] = []
    for n, labels, p in ((30, 4, 0.4), (6, 5, 0.2), (4, 1, 0.5)):
        right = [[int(rng.random() < p) for _ in range(labels)] for _ in range(n)]
        predicted = [[x if rng.random() < 0.8 else 1 - x for x in row] for row in right]
        out["label_lists"].append(
            {
                "labels": labels, "predicted": sum(predicted, []), "right": sum(right, []),
                "accuracy": accuracy_score(right, predicted),
                "macro": f1_score(right, predicted, average="macro", zero_division=0) if labels > 1 else f1_score(right, predicted, zero_division=0),
                "micro": f1_score(right, predicted, average="micro" if labels > 1 else "binary", zero_division=0),
            }  # fmt: skip
        )
    print(json.dumps(out))


if __name__ == "__main__":
    main()
