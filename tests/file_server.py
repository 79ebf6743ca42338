"""A web server on this machine that breaks off, stalls, redirects or sends wrong data."""

import contextlib
import http.server
import threading

import numpy as np

CONTENT = np.random.default_rng(0).integers(0, 256, 1_000_000).astype("uint8").tobytes()


class Server(http.server.ThreadingHTTPServer):
    """A test sets its behaviour; `requests` holds the path and range of each request."""

    daemon_threads = True
    content = CONTENT  # of a path that is not in `files`
    ranges = True  # whether it supports them
    breaks = 0  # number of answers that end early
    stalls = False  # whether an answer that ends early keeps its connection open
    after = 300_000  # bytes, those
    status = None  # an error in place of the file
    wrong_range = False
    length = True  # whether it sends the length of the file

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.files, self.redirects = [], {}, {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.ended = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.status or self.path.endswith("404"):
            self.send_error(server.status or 404)
            return
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
            return
        content, start = server.files.get(self.path, server.content), 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            first = start + server.wrong_range
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        early = server.breaks > 0
        if early:
            server.breaks -= 1
            body = body[: server.after]
        self.wfile.write(body)
        if early and server.stalls:
            self.wfile.flush()
            server.ended.wait()


@contextlib.contextmanager
def serve():
    """A running `Server`."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
