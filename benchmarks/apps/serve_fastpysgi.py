"""fastpysgi with the bare ASGI callback, on uvloop: a quarter faster than on the loop it makes itself."""

import sys

import fastpysgi
import uvloop
from app_asgi import app

fastpysgi.server.max_content_length = 64 * 1024 * 1024
fastpysgi.server.tcp_nodelay = 1
fastpysgi.server.loop = uvloop.new_event_loop()
fastpysgi.run(app, host="127.0.0.1", port=int(sys.argv[1]), loglevel=0)
