"""Answers a page, and sends back what comes over a WebSocket (RFC 6455): text of up to 125 bytes, in one frame."""

import base64
import hashlib
import http.server

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Chat(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if self.headers.get("Upgrade", "").lower() != "websocket" or not key:
            page = f"<title>the chat</title> {self.headers.get('X-Forwarded-Proto')}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header(
            "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        )
        self.end_headers()
        while head := self.rfile.read(2):
            length = head[1] & 0x7F
            mask = self.rfile.read(4)
            text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length)))
            self.wfile.write(bytes([0x81, length]) + text)
        self.close_connection = True


http.server.ThreadingHTTPServer(("127.0.0.1", 8065), Chat).serve_forever()
