"""A browser, and what it asked for: skipped by name where Chromium or its driver is not found."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest
from conftest import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
RECORDED = Path(__file__).with_name("recorded.py")


class Browser:
    """Chromium on one page, with what it asked for and complained of."""

    def __init__(self, downloads: Path):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
        ):
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.downloads = downloads

    def find(self, selector: str, wait: float = 30):
        """The first element that is seen."""
        return self.until(lambda: next((each for each in self.all(selector) if each.is_displayed()), None), wait)

    def click(self, selector: str) -> None:
        """Click on an element as soon as nothing lies over it: the page moves while it is drawn."""
        self.until(lambda: self.find(selector).click() is None)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def until(self, found, wait: float = 60):
        """What a function finds, as soon as it finds something."""
        from selenium.common import ElementClickInterceptedException, StaleElementReferenceException

        end = time.monotonic() + wait
        while time.monotonic() < end:
            try:
                if value := found():
                    return value
            except (ElementClickInterceptedException, StaleElementReferenceException):
                pass
            time.sleep(0.05)
        self.shoot(self.downloads / "failed.png")
        raise AssertionError(f"not found within {wait} s; see {self.downloads}/failed.png")

    def resize(self, width: int, height: int = 900) -> None:
        """Make the page this wide: a window would not become narrower than 500."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def shoot(self, path: Path) -> None:
        """Keep the whole page as a picture."""
        png = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(png))

    def hosts(self) -> set[str]:
        """Every host that was asked for anything since the last question."""
        messages = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        sent = [each["params"]["request"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        sent += [each["params"] for each in messages if each["method"] == "Network.webSocketCreated"]
        urls = [urlparse(each["url"]) for each in sent]
        return {url.hostname for url in urls if url.scheme not in ("data", "blob", "chrome")}

    def complaints(self) -> list[str]:
        """Errors in the console since the last question."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def fits(self) -> bool:
        """Whether nothing reaches over the page's side."""
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )


def choose(browser: Browser, *photographs: Path) -> None:
    """Choose photographs in the page that colours them, instead of those before."""
    browser.find("#photographs")
    if browser.all("#photographs .file"):
        browser.click("#photographs button[aria-label*='lear']")
        browser.until(lambda: not browser.all("#photographs .file"))
    chooser = browser.until(lambda: browser.all("#photographs input[type=file]"))[0]
    chooser.send_keys("\n".join(map(str, photographs)))


@pytest.fixture
def open_browser(tmp_path):
    """Open Chromium, as often as a test has visitors."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium and chromedriver are not found: apt-get install chromium chromium-driver")
    pytest.importorskip("selenium", reason="selenium is not installed: pip install 'gan-color[browser]'")
    opened = []

    def open_browser(url: str) -> Browser:
        downloads = tmp_path / f"downloads{len(opened)}"
        downloads.mkdir()
        opened.append(Browser(downloads))
        opened[-1].resize(1280)
        opened[-1].driver.get(url)
        return opened[-1]

    yield open_browser
    for browser in opened:
        browser.driver.quit()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start a server as a user does, wait until it says what `ready` says, and stop it behind the tests.

    `asked()` of what it returns says which addresses the server's own process has asked for.
    """
    started = []

    def serve(*command: str, ready: str) -> subprocess.Popen:
        said = tmp_path_factory.mktemp("server") / "said"
        asked = said.with_name("asked")
        env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(said.parent)}
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, RECORDED, asked, *command],
                cwd=PROJECT,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
            )
        process.said, process.temporary = said, said.parent
        process.asked = lambda: set(asked.read_text().split())
        started.append(process)
        end = time.monotonic() + 120
        while ready not in said.read_text():
            assert process.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.1)
        return process

    yield serve
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
