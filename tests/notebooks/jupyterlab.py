"""A real JupyterLab in Chromium, for the tests of what people look at and click."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium: apt-get install chromium"),
]

ARGUMENTS = [
    "--no-sandbox", "--headless=new", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip


def write(path, cells):
    content = [
        {
            "cell_type": "code",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": f"c{number}",
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(
        json.dumps({"cells": content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A JupyterLab of its own over a folder: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    own = {f"JUPYTER_{name}_DIR": str(folder / ".jupyter" / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    environment = {key: value for key, value in os.environ.items() if key != "MEDLAB_HEADLESS"} | own
    del environment["JUPYTER_DATA_DIR"]  # the kernel and Lab's extensions lie in the environment's own data folder
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            base = f"http://127.0.0.1:{port}"
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{base}/api?token=t", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield base
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def opened(folder: Path, cells: list[str], *, height: int = 1500, look: Callable | None = None) -> Iterator:
    """A notebook of these cells in the browser, started with Run All Cells; ``look`` sees the page before it loads."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    write(folder / "cells.ipynb", cells)
    with served(folder) as address, playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS, ignore_default_args=["--headless"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": height})
        if look is not None:
            look(page, address)
        page.goto(f"{address}/lab/tree/cells.ipynb?reset&token=t", timeout=120_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
        page.click(".jp-CodeCell .cm-content >> nth=0")
        for _ in range(6):  # the first click on the menu is now and then dropped
            page.click('.lm-MenuBar-itemLabel:text-is("Run")')
            page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
            time.sleep(2)
            prompts = page.locator(".jp-InputPrompt")
            if prompts.filter(has_text="*").count() or prompts.filter(has_text="1").count():
                break
        yield page
        # Nothing is on red ground, as errors are.
        for kind in ("error", "stderr"):
            assert not page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").count()
        browser.close()


def changed(element, before: bytes, seconds: float = 20) -> bool:
    """Whether what is drawn becomes another picture in that time."""
    deadline = time.time() + seconds
    while element.screenshot() == before and time.time() < deadline:
        time.sleep(0.3)
    return element.screenshot() != before


def colors(screenshot: bytes) -> int:
    """How many different gray values a screenshot has: a blank canvas has a few."""
    return len(np.unique(np.asarray(Image.open(BytesIO(screenshot)).convert("L"))))
