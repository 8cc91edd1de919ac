"""Send requests to llama.cpp: `python ask_llama_cpp.py GGUF < REQUESTS` prints the responses; both are JSON.

Runs in a process of its own, with the folder of xllamacpp (llama.cpp's server in a wheel) on the path: only that and
the standard library may be imported. A request is a path of the server and a body: ["/tokenize", {…}].
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


def send(path: str, body: dict) -> dict:
    request = Request(server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as response:
        return json.load(response)


print(json.dumps([send(path, body) for path, body in json.load(sys.stdin)]))
