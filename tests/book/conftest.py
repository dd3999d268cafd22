"""Caches whose sizes are read, and a browser; pytest finds the fixtures here."""

import shutil

import pytest
from tinycaches import finished, model

__all__ = ["browser", "finished", "model"]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()
