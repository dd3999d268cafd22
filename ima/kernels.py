"""The Jupyter kernel that runs notebooks: always the interpreter that asked for it."""

from __future__ import annotations

from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager


class OwnKernelManager(AsyncKernelManager):
    """Start the running interpreter's own kernel, whatever kernels the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel of ``sys.executable``."""
        return KernelSpec(**get_kernel_dict())

    async def _async_start_kernel(self, **kwargs: Any) -> None:
        # A warning about unencrypted TCP, printed at each start, concerns remote kernels only:
        # this one listens on the loopback interface and its messages are signed.
        kwargs["extra_arguments"] = [*kwargs.get("extra_arguments", []), "--log-level=ERROR"]
        await super()._async_start_kernel(**kwargs)

    start_kernel = _async_start_kernel
