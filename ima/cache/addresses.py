"""Addresses of stores behind a URL, and what lets somebody in there."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from ima.errors import CacheError

#: Protocols of URLs, and whether a cache can be written there.
PROTOCOLS = {
    "s3": True,
    "gs": True,
    "memory": True,
    "https": False,
    "http": False,
    "hf": False,
}
#: Variables of the environment with which a bucket lets its users in.
CREDENTIALS = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "gs": (
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    "hf": ("HF_TOKEN",),
}
_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")


def format_cache_command(verb: str, *words: str) -> str:
    """Return a command line of ``ima cache`` that a shell reads as it stands.

    Parameters
    ----------
    verb : str
        The subcommand.
    *words : str
        Paths, URLs and options.

    Examples
    --------
    >>> format_cache_command("verify", "my data.zarr", "--repair")
    "ima cache verify 'my data.zarr' --repair"
    """
    return shlex.join(["ima", "cache", verb, *words])


def is_url(text: str) -> bool:
    """Return whether a text is a URL and not a path.

    Examples
    --------
    >>> is_url("s3://bucket/x.zarr"), is_url("data/x.zarr")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


@dataclass(frozen=True)
class HubDataset:
    """A place in a data set of the Hugging Face hub.

    Parameters
    ----------
    repository : str
        Owner and name.
    revision : str
        Branch, tag or commit.
    path : str
        Folder in the repository.

    Examples
    --------
    >>> HubDataset.parse("hf://datasets/them/caches@v1/small/x.zarr")
    HubDataset(repository='them/caches', revision='v1', path='small/x.zarr')
    """

    repository: str
    revision: str
    path: str

    @classmethod
    def parse(cls, address: str) -> HubDataset:
        """Take a URL apart.

        Raises
        ------
        CacheError
            If it names no folder of a data set.
        """
        match = _HUB.fullmatch(address)
        if match is None:
            raise CacheError(
                f"{address!r} names no folder of a data set of the hub. Write: "
                "hf://datasets/OWNER/NAME/FOLDER, with NAME@REVISION for another branch than main."
            )
        return cls(match[1], match[2] or "main", match[3])

    def get_url(self) -> str:
        """Return the address of the folder on the hub's web server.

        Raises
        ------
        CacheError
            If the hub's client is not installed.
        """
        try:
            from huggingface_hub import constants
        except ImportError as error:
            address = f"hf://datasets/{self.repository}/{self.path}"
            raise make_missing_error(address, "huggingface-hub") from error
        root = f"{constants.ENDPOINT}/datasets/{self.repository}/resolve/{self.revision}"
        return f"{root}/{self.path}"


def check_address(address: str) -> None:
    """Raise an error if a URL is not one of a store.

    Raises
    ------
    CacheError
        If no store has this protocol, the URL holds credentials or a query, or names no folder.

    Examples
    --------
    >>> check_address("ftp://host/x.zarr")
    Traceback (most recent call last):
    ...
    ima.errors.CacheError: Cannot open 'ftp://host/x.zarr': no store has the protocol 'ftp'. Give \
a local path, or a URL that starts with one of: s3, gs, memory, https, http, hf.
    """
    protocol = address.partition("://")[0]
    if protocol not in PROTOCOLS:
        raise CacheError(
            f"Cannot open {hide_secrets(address)!r}: no store has the protocol {protocol!r}. Give "
            f"a local path, or a URL that starts with one of: {', '.join(PROTOCOLS)}."
        )
    if hide_secrets(address) != address:
        names = CREDENTIALS.get(protocol, ())
        raise CacheError(
            f"{hide_secrets(address)!r} holds a password, a query or a fragment. Give the URL "
            f"without it. Credentials come from the environment only"
            f"{': ' + ', '.join(names) if names else ''}."
        )
    if protocol == "hf":
        HubDataset.parse(address)
    elif protocol != "memory" and not address.partition("://")[2].partition("/")[2]:
        raise CacheError(f"{address!r} names no folder. Give one: {address.rstrip('/')}/NAME.zarr")


def hide_secrets(address: str) -> str:
    """Return a URL without what can let somebody in: user, password, query and fragment.

    Examples
    --------
    >>> hide_secrets("https://me:word@host/x.zarr?signature=abc")
    'https://…@host/x.zarr?…'
    """
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")
    hidden = f"{parts.scheme}://{'…@' if host[1] else ''}{host[2]}{parts.path}"
    # The revision of a data set of the hub is none of these.
    hidden = address.partition("?")[0].partition("#")[0] if parts.scheme == "hf" else hidden
    return hidden + ("?…" if parts.query or parts.fragment else "")


def redact(text: str) -> str:
    """Return a text without the values of the environment's credentials.

    Examples
    --------
    >>> redact("no answer")
    'no answer'
    """
    for name in (name for names in CREDENTIALS.values() for name in names):
        value = os.environ.get(name, "")
        if len(value) >= 4:
            text = text.replace(value, "…")
    return text


def make_missing_error(address: str, package: str) -> CacheError:
    """Return the error for a package that is not installed.

    Examples
    --------
    >>> str(make_missing_error("s3://bucket/x.zarr", "obstore"))
    "Cannot open 's3://bucket/x.zarr': obstore is not installed. Stores behind a URL need the \
extra `remote`: pip install 'ima[remote]'"
    """
    return CacheError(
        f"Cannot open {address!r}: {package} is not installed. Stores behind a URL need the extra "
        "`remote`: pip install 'ima[remote]'"
    )
