"""What the larger workloads send and expect: the same for every application, and for the check of their answers."""

import json

RECORDS = [
    {
        "id": number,
        "name": f"Ada Lovelace {number}",
        "email": f"ada.{number}@example.org",
        "active": number % 3 != 0,
        "score": number * 1.25,
        "tags": ["mathematician", "writer", "pioneer"],
        "address": {"street": f"{number} St James's Square", "city": "London", "zip": "SW1Y 4JH"},
    }
    for number in range(50)
]
"""10 KB as JSON; encoded anew for each request."""
RECORDS_JSON = json.dumps(RECORDS, separators=(",", ":")).encode()

HEADERS = tuple((f"x-header-{number:02}", f"value-{number:02}") for number in range(20))

BOUNDARY = "----vibora-benchmark-7b1d4e"
MULTIPART_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
MULTIPART = (
    "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("title", "Notes on the engine"), ("author", "Ada Lovelace"), ("year", "1843"))
    )
    + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="notes.txt"\r\n'
    + f"Content-Type: text/plain\r\n\r\n{'n' * 4096}\r\n--{BOUNDARY}--\r\n"
)

CHUNK = b"x" * (64 * 1024)
CHUNKS = 64
EVENT = b'data: {"price": 101.25, "size": 300}\n\n'
EVENTS = 20
