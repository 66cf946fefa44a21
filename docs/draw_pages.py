"""Draw the screenshots in README.

python docs/draw_pages.py RUNS PHOTOGRAPH

RUNS is a folder with the runs of both stages, `pretrain` and `gan`. Needs chromium and chromedriver. Writes
docs/demo.jpg and docs/tensorboard.jpg.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent / "tests" / "browser"), str(DOCS.parent / "tests"), str(DOCS.parent)]

from chromium import Browser, free_port  # noqa: E402


def is_loaded(picture) -> bool:
    """Whether the browser has a picture's pixels."""
    return picture.get_property("naturalWidth") > 0


def main(runs: Path, photograph: Path) -> None:
    """Serve both pages, colour a photograph in one, and keep what they look like."""
    ports = free_port(), free_port()
    generators = [f"--checkpoint={runs / stage}" for stage in ("gan", "pretrain")]
    demo = [sys.executable, "-m", "gan_color", "demo", *generators, "--port", str(ports[0])]
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", str(ports[1])]
    servers = [subprocess.Popen(demo, stdout=subprocess.PIPE), subprocess.Popen(board, stderr=subprocess.DEVNULL)]
    servers[0].stdout.readline()
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.resize(1280, 860)
            browser.driver.get(f"http://127.0.0.1:{ports[0]}")
            browser.find("#colour")
            browser.until(lambda: browser.all("#photographs input[type=file]"))[0].send_keys(str(photograph.resolve()))
            browser.until(lambda: browser.all("#photographs .file"))
            for box in browser.all("#generators input[type=checkbox]")[1:]:
                box.click()
            browser.find("#colour").click()
            browser.until(lambda: len(browser.all("#results img")) == 2, 120)
            browser.until(lambda: len(shown := browser.all("#slider img")) == 2 and all(map(is_loaded, shown)))
            time.sleep(3)
            browser.shoot(Path(folder) / "demo.png")
            browser.driver.get(f"http://localhost:{ports[1]}/#images")
            time.sleep(10)
            browser.shoot(Path(folder) / "tensorboard.png")
            Image.open(Path(folder) / "demo.png").convert("RGB").save(DOCS / "demo.jpg", quality=85)
            grids = Image.open(Path(folder) / "tensorboard.png").crop((320, 64, 1080, 690))
            grids.convert("RGB").save(DOCS / "tensorboard.jpg", quality=85)
        finally:
            browser.driver.quit()
            for server in servers:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
