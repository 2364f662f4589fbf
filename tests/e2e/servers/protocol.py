"""A small server of the Open Inference Protocol, version 2, with one model that adds up."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = {
    "name": "sum",
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "rows", "datatype": "FP64", "shape": [-1, -1]}],
    "outputs": [{"name": "sums", "datatype": "FP64", "shape": [-1]}],
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        wanted = self.path.partition("/v2/")[2]
        known = {"health/live": {}, "health/ready": {}, "models/sum": MODEL, "models/sum/ready": {}}
        self.answer(known.get(wanted, {"error": f"no {wanted}"}), 200 if wanted in known else 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = asked["inputs"][0]["data"]
        sums = [sum(row) for row in rows]
        output = {"name": "sums", "datatype": "FP64", "shape": [len(sums)], "data": sums}
        self.answer({"model_name": "sum", "model_version": "1", "outputs": [output]})


ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
