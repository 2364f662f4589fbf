"""Serve the forest: POST the four measurements of a bottle, get its taste."""

import json
import pickle
from pathlib import Path

from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI(title="Taste of a bottle")
forest = pickle.loads(Path("model.pkl").read_bytes())


class Bottle(BaseModel):
    alcohol: float
    acidity: float
    sulphates: float
    colour: float


# Requests carry the whole path, /<owner>/<project>/<deployment>/<version or alias>/predict: whatever it is, answer it.
@app.post("/{path:path}")
def predict(bottle: Bottle, request: Request):
    row = [bottle.alcohol, bottle.acidity, bottle.sulphates, bottle.colour]
    probabilities = forest.predict_proba([row])[0]
    best = int(probabilities.argmax())
    taste = str(forest.classes_[best])
    # A line with this one key becomes a metric of the endpoint.
    print(json.dumps({"vh_metadata": {"taste": taste, "probability": round(float(probabilities[best]), 3)}}), flush=True)
    return {"taste": taste, "probability": round(float(probabilities[best]), 3)}
