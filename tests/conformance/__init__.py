"""Corpora of raw requests, and a runner that replays them against a live server: `make conformance`.

`case` says what a case is and how a corpus file is read and written, `corpus` holds the project's own cases, `wire`
reads responses by the letter of RFC 9112, `replay` starts a server and judges what it answers.
"""
