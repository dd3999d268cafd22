"""Fixtures of the tests of faults."""

from faultcaches import mount_disk, sound, write_store
from tinycaches import model
from tinycli import run_ima

__all__ = ["model", "mount_disk", "run_ima", "sound", "write_store"]
