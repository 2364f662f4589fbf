"""A Flask application; the platform brings its server."""

import json

from flask import Flask, request

app = Flask(__name__)


@app.post("/<path:path>")
def double(path):
    number = request.get_json()["number"]
    print(json.dumps({"vh_metadata": {"number": number}}), flush=True)
    return {"double": 2 * number, "prefix": request.headers["X-VH-Prefix"]}
