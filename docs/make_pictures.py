"""Make docs/pictures/: the studio in a Chromium that is installed, light and dark, wide and on a phone.

    .venv/bin/python docs/make_pictures.py

Not here: the figures of the documentation (`make_figures.py`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import ViewportSize, sync_playwright

PICTURES = Path(__file__).parent / "pictures"
WIDE, PHONE = ViewportSize(width=1280, height=1060), ViewportSize(width=390, height=844)
SHOTS: list[tuple[str, Literal["light", "dark"], ViewportSize]] = [
    ("studio-light", "light", WIDE),
    ("studio-dark", "dark", WIDE),
    ("studio-phone", "light", PHONE),
]
SETTLED = 1500  # milliseconds until all is drawn


def main() -> None:
    """Take the pictures."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    command = [sys.executable, "-m", "tapegpt", "studio", "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # itself
    with sync_playwright() as playwright, server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, scheme, size in SHOTS:
            context = chromium.new_context(
                viewport=size, device_scale_factor=1.5, color_scheme=scheme, reduced_motion="reduce"
            )
            page = context.new_page()
            for _ in range(2):  # the second time the code is there
                page.goto(found[0])
                page.wait_for_selector("#strings-view li >> nth=19")
            if size is PHONE:
                page.click("#panel > summary")
            page.wait_for_timeout(SETTLED)
            page.screenshot(path=PICTURES / f"{name}.png")
            context.close()
        chromium.close()
        server.terminate()


if __name__ == "__main__":
    main()
