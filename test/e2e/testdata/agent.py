"""agent.py: an agent on Python's http.server, HTTP/1.1 with connections that are kept. It says where it listens, and
serves until it is ended. The last segment of the path says what it does."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            text = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                text += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return text
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, text, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def chunk(self, text):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

    def do_POST(self):
        what = self.path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
        if what == "early":  # does not read what is sent
            self.answer(413, b'{"code":"too_large"}', Content_Type="application/json", Connection="close")
            self.close_connection = True
            return
        if what == "ws":
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.end_headers()
            self.close_connection = True
            return
        body = self.body()
        if what == "fail":
            self.answer(500, b'{"code":"broken"}', Content_Type="application/json")
        elif what == "mcp" and not self.path.endswith("/"):  # as Starlette does, with the Host that it was called by
            self.answer(307, b"", Location="http://%s%s/" % (self.headers["Host"], self.path))
        elif what == "login":
            root = self.path[: -len("/login")]
            self.answer(200, b"{}", Set_Cookie="sid=1; Path=%s/; HttpOnly" % root)
        elif what == "whoami":
            self.answer(200, json.dumps({"cookie": self.headers.get("Cookie", "")}).encode())
        elif what == "sse":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            for i in range(100):
                self.chunk(b"data: %d\n\n" % i)
            self.wfile.write(b"0\r\nX-Sum: 100\r\n\r\n")
        else:
            self.answer(200, b'{"length":%d}' % len(body), Content_Type="application/json")

    do_GET = do_PUT = do_DELETE = do_POST

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
server.daemon_threads = True
print("http://127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
