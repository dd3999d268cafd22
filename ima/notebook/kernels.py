"""The Jupyter kernel that runs notebooks: the same Python interpreter as the caller's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager


class CurrentPythonKernelManager(AsyncKernelManager):
    """Start a kernel of the running interpreter, independent of the kernels that are installed.

    The kernel communicates through sockets in a temporary folder. TCP ports are chosen before the
    kernel binds them, so two kernels that start at the same moment can choose the same port.
    """

    def __init__(self, **kwargs: Any) -> None:
        # A short path, because the name of a socket has at most about a hundred characters.
        self._folder = tempfile.TemporaryDirectory(prefix="ima-")
        connection = Path(self._folder.name) / "k"
        super().__init__(
            transport="ipc",
            ip=str(connection),
            connection_file=str(connection.with_suffix(".json")),
            **kwargs,
        )

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel of ``sys.executable``."""
        return KernelSpec(**get_kernel_dict())

    async def _async_start_kernel(self, **kwargs: Any) -> None:
        environment = dict(kwargs.pop("env", None) or os.environ)
        # tqdm warns that a widget is missing, which no page could show.
        filters = [environment.get("PYTHONWARNINGS", ""), "ignore:IProgress not found"]
        environment["PYTHONWARNINGS"] = ",".join(filter(None, filters))
        # What transformers remarks on a configuration belongs to the command that makes caches,
        # which shows it. On a page it would be an error of the book's.
        environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
        await super()._async_start_kernel(env=environment, **kwargs)

    start_kernel = _async_start_kernel

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart=restart)
        if not restart:
            self._folder.cleanup()

    cleanup_resources = _async_cleanup_resources
