"""Vibora over TLS: port, certificate, key."""

import sys

from app_vibora import app

from vibora.tls import TLS

port, cert, key = sys.argv[1:]
app.run(port=int(port), tls=TLS(cert, key))
