"""HTTPS server that answers `null` to every request, with the certificate and key in the folder of its argument."""

import http.server
import os
import ssl
import sys


class Null(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"null")

    def log_message(self, *args):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that does not accept the certificate hangs up


folder = sys.argv[1]
server = Quiet(("127.0.0.1", 0), Null)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))
server.socket = context.wrap_socket(server.socket, server_side=True)
port = os.path.join(folder, "port")
with open(port + ".tmp", "w") as file:
    file.write(str(server.server_address[1]))
os.replace(port + ".tmp", port)
server.serve_forever()
