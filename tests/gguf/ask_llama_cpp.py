"""Asks llama.cpp: `python llama_cpp.py GGUF < QUESTIONS`, both JSON; prints the answers as JSON.

Run by itself, with the folder of xllamacpp (llama.cpp's server in a wheel) on the path: only that and the standard
library may be imported. A question is a path of the server and a body: ["/tokenize", {…}].
"""

import json
import sys
from urllib.request import Request, urlopen

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 512
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)


def answer(path: str, body: dict) -> dict:
    request = Request(server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as response:
        return json.load(response)


print(json.dumps([answer(path, body) for path, body in json.load(sys.stdin)]))
