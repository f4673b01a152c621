"""Stores the body of every trace export request, in order of arrival.

Each record is a 4-byte big-endian length and the serialized ExportTraceServiceRequest.
Now and then the collector stores a request and answers 503 all the same, as one
behind a failing proxy does: the exporter sends it again and its spans arrive twice.
"""

import gzip
import random
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common import PORTS

UNAVAILABLE = 0.003


def main():
    lock = threading.Lock()
    out = open(sys.argv[1], "wb")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(200)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with lock:
                out.write(len(body).to_bytes(4, "big") + body)
            self.answer(503 if random.random() < UNAVAILABLE else 200)

        def answer(self, code):
            self.send_response(code)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", PORTS["collector"]), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    with lock:
        out.close()


main()
