"""client.py CLIENT CASE URL [ARGUMENT]: one case, with one of Python's clients of HTTP. It prints what the client saw:
an object of JSON at its end, or, for the case stream, each line as it comes."""

import http.client
import json
import socket
import sys
import urllib.parse

connections = 0
connect = socket.socket.connect


def counting(self, address):
    global connections
    connections += 1
    return connect(self, address)


socket.socket.connect = counting  # all three clients open their connections with it


class Plain:
    """http.client, with one connection for all calls. It follows no redirects and keeps no cookies."""

    def __init__(self):
        self.conn = None

    def post(self, url, body, headers=None):
        u = urllib.parse.urlsplit(url)
        if self.conn is None:
            self.conn = http.client.HTTPConnection(u.hostname, u.port, timeout=30)
        self.conn.request("POST", u.path, body=body, headers=headers or {}, encode_chunked=not isinstance(body, bytes))
        r = self.conn.getresponse()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read()

    def lines(self, url):
        u = urllib.parse.urlsplit(url)
        conn = http.client.HTTPConnection(u.hostname, u.port, timeout=30)
        conn.request("GET", u.path)
        for line in conn.getresponse():
            yield line.decode().rstrip("\r\n")


class Requests:
    def __init__(self):
        import requests  # the others cost a second

        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, url, body, headers=None):
        r = self.session.post(url, data=body, headers=headers, timeout=30)
        return r.status_code, {k.lower(): v for k, v in r.headers.items()}, r.content

    def lines(self, url):
        with self.session.get(url, stream=True, timeout=30) as r:
            for line in r.iter_lines(chunk_size=1):
                yield line.decode()


class Httpx:
    def __init__(self, **options):
        import httpx

        self.client = httpx.Client(timeout=30, trust_env=False, follow_redirects=True, **options)

    def post(self, url, body, headers=None):
        r = self.client.post(url, content=body, headers=headers)
        return r.status_code, dict(r.headers.items()), r.content

    def lines(self, url):
        with self.client.stream("GET", url) as r:
            yield from r.iter_lines()


clients = {
    "http.client": Plain,
    "requests": Requests,
    "httpx": Httpx,
    "httpx-h2c": lambda: Httpx(http1=False, http2=True),
    "httpx-h2": lambda: Httpx(http2=True, verify=sys.argv[4]),
}


def parts(megabytes):
    """A body of unknown length."""
    for _ in range(megabytes):
        yield b"x" * 1_000_000


def main():
    client, case, url = clients[sys.argv[1]](), sys.argv[2], sys.argv[3]
    seen = {}
    if case == "stream":
        for line in client.lines(url):
            print(line.rstrip("\n"), flush=True)
        return
    if case == "posts":  # twenty, one after the other
        answers = [client.post(url, b'{"a":1}', {"Content-Type": "application/json"}) for _ in range(20)]
        seen["statuses"] = sorted({a[0] for a in answers})
        seen["answers"] = sorted({a[2].decode() for a in answers})
    elif case == "upload":  # of a known length, of an unknown length
        megabytes = int(sys.argv[4])
        seen["answers"] = []
        for body in (b"x" * megabytes * 1_000_000, parts(megabytes)):
            status, headers, text = clients[sys.argv[1]]().post(url, body)
            seen["answers"].append([status, headers.get("retry-after", ""), json.loads(text).get("code", "")])
    elif case == "follow":
        status, headers, text = client.post(url, b'{"a":1}', {"Content-Type": "application/json"})
        seen["answers"] = [[status, text.decode()]]
    elif case == "cookies":  # the second call brings what the first has set
        client.post(url + "/login", b"{}")
        seen["answers"] = [client.post(url + "/whoami", b"{}")[2].decode()]
    seen["connections"] = connections
    print(json.dumps(seen))


main()
