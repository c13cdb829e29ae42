"""`python -m vibora._worker`: a process that a parent starts to serve an app; see `vibora.workers`."""

import sys

from vibora.workers import begin

if __name__ == "__main__":
    begin(int(sys.argv[1]))
