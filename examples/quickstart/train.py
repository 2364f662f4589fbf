"""Train a small forest on a CSV input: parameters in, metadata and a model file out."""

import argparse
import csv
import json
import os
import pickle
import time
from pathlib import Path

from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

INPUTS = Path(os.environ["VH_INPUTS_DIR"])
OUTPUTS = Path(os.environ["VH_OUTPUTS_DIR"])


def read_rows():
    """All CSV files of the input as (features, label) lists."""
    features, labels = [], []
    for path in sorted((INPUTS / "measurements").glob("*.csv")):
        with path.open() as file:
            for row in csv.reader(file):
                try:
                    features.append([float(value) for value in row[:-1]])
                except ValueError:
                    continue  # the header line
                labels.append(row[-1])
    return features, labels


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", type=int, required=True)
    parser.add_argument("--max-depth", type=int, required=True)
    args = parser.parse_args()

    features, labels = read_rows()
    print(f"Read {len(features)} bottles with {len(features[0])} measurements each.", flush=True)
    train_x, test_x, train_y, test_y = train_test_split(features, labels, test_size=0.25, random_state=7)

    forest = RandomForestClassifier(n_estimators=1, max_depth=args.max_depth, random_state=7, warm_start=True)
    stages = sorted({max(1, args.trees * part // 6) for part in range(1, 7)})
    for trees in stages:
        forest.set_params(n_estimators=trees)
        forest.fit(train_x, train_y)
        accuracy = accuracy_score(test_y, forest.predict(test_x))
        # A line that is a JSON object becomes metadata: it is plotted, compared and kept.
        print(json.dumps({"trees": trees, "accuracy": round(accuracy, 4)}), flush=True)
        time.sleep(0.2)

    with (OUTPUTS / "model.pkl").open("wb") as file:
        pickle.dump(forest, file)
    with (OUTPUTS / "model.pkl.metadata.json").open("w") as file:
        json.dump({"valohai.tags": ["quickstart"], "accuracy": round(accuracy, 4)}, file)
    print("Saved model.pkl.", flush=True)


if __name__ == "__main__":
    main()
