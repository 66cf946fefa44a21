"""Draw the screenshots in README.

python docs/draw_pages.py GENERATORS RUNS PHOTOGRAPH

Both folders hold the runs of both stages, `pretrain` and `gan`: those whose generators docs/demo.jpg shows, and those
whose curves and grids docs/tensorboard.jpg shows. Needs chromium and chromedriver.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent / "tests" / "browser"), str(DOCS.parent / "tests"), str(DOCS.parent)]

from chromium import Browser, choose, free_port  # noqa: E402


def is_loaded(picture) -> bool:
    """Whether the browser has a picture's pixels."""
    return picture.get_property("naturalWidth") > 0


def main(generators: Path, runs: Path, photograph: Path) -> None:
    """Serve both pages, colour a photograph in one, and keep what they look like."""
    ports = free_port(), free_port()
    offered = [f"--checkpoint={generators / stage}" for stage in ("gan", "pretrain")]
    demo = [sys.executable, "-m", "gan_color", "demo", *offered, "--port", str(ports[0])]
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", str(ports[1])]
    servers = [subprocess.Popen(demo, stdout=subprocess.PIPE), subprocess.Popen(board, stderr=subprocess.DEVNULL)]
    servers[0].stdout.readline()
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.resize(1280, 860)
            browser.driver.get(f"http://127.0.0.1:{ports[0]}")
            browser.find("#colour")
            choose(browser, photograph.resolve())
            browser.until(lambda: browser.all("#photographs .file"))
            for box in browser.all("#generators input[type=checkbox]")[1:]:
                box.click()
            browser.click("#colour")
            browser.until(lambda: len(browser.all("#results img")) == 2, 120)
            browser.until(lambda: len(shown := browser.all("#slider img")) == 2 and all(map(is_loaded, shown)))
            time.sleep(3)
            browser.shoot(Path(folder) / "demo.png")
            Image.open(Path(folder) / "demo.png").convert("RGB").save(DOCS / "demo.jpg", quality=85)
            tabs = []
            for tab, box in (("custom_scalars", (330, 64, 1045, 400)), ("images", (330, 116, 1075, 690))):
                browser.driver.get("about:blank")
                browser.driver.get(f"http://localhost:{ports[1]}/#{tab}")
                time.sleep(12)
                browser.shoot(Path(folder) / f"{tab}.png")
                tabs.append(Image.open(Path(folder) / f"{tab}.png").crop(box).convert("RGB"))
            page = Image.new("RGB", (max(tab.width for tab in tabs), sum(tab.height for tab in tabs)), "white")
            for tab, top in zip(tabs, (0, tabs[0].height), strict=True):
                page.paste(tab, (0, top))
            page.save(DOCS / "tensorboard.jpg", quality=85)
        finally:
            browser.driver.quit()
            for server in servers:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
