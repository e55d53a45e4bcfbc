"""What a database server of a cluster has beside it: it says by HTTPS whether the server is the writer, or is about to hand that over. Here files say so."""

import http.server
import os
import ssl
import sys


class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        writer = self.path == "/writer" and os.path.exists("/run/writer")
        self.send_response(503 if not writer else 404 if os.path.exists("/run/leaving") else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words):
        pass


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/etc/ssl/database/host.pem", "/etc/ssl/database/host.key")
tls.load_verify_locations("/etc/ssl/database/authority.pem")
tls.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer((sys.argv[1], 3308), Agent)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
