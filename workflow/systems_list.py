"""Write the front page's list of systems from what the pages of systems recorded."""

from __future__ import annotations

import sys
from pathlib import Path

from ima.systems.overview import write_systems_list

if __name__ == "__main__":
    target, *records = map(Path, sys.argv[1:])
    write_systems_list(records, out=target)
