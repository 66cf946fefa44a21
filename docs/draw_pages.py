"""Draw the screenshots in README. Needs chromium and chromedriver.

python docs/draw_pages.py demo PHOTOGRAPH general flowers
python docs/draw_pages.py board checkpoints/short
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tyro
from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent / "tests" / "browser"), str(DOCS.parent / "tests"), str(DOCS.parent)]

from chromium import Browser, choose, free_port  # noqa: E402
from test_tensorboard import TABS, pictures_of, text_of  # noqa: E402


def demo(photograph: tyro.conf.Positional[Path], generators: tyro.conf.Positional[tuple[str, ...]]) -> None:
    """Draw docs/demo.jpg: the page of gan-color demo with a photograph coloured by each generator.

    Args:
        photograph: one that none of them was trained on.
        generators: run folders, generator folders or names.
    """
    port = free_port()
    offered = [f"--checkpoint={generator}" for generator in generators]
    server = subprocess.Popen(
        [sys.executable, "-m", "gan_color", "demo", *offered, "--port", str(port)], stdout=subprocess.PIPE
    )
    server.stdout.readline()
    with _browser(server) as browser:
        browser.driver.get(f"http://127.0.0.1:{port}")
        browser.find("#colour")
        choose(browser, photograph.resolve())
        browser.until(lambda: browser.all("#photographs .file"))
        for box in browser.all("#generators input[type=checkbox]")[1:]:
            box.click()
        browser.click("#colour")
        if len(generators) > 1:
            browser.until(lambda: len(browser.all("#results img")) == len(generators), 120)
        browser.until(lambda: len(shown := browser.all("#slider img")) == 2 and all(map(_is_loaded, shown)), 120)
        time.sleep(3)
        _shoot(browser).save(DOCS / "demo.jpg", quality=85)


def board(runs: tyro.conf.Positional[Path]) -> None:
    """Draw docs/tensorboard.jpg: TensorBoard's charts and grids.

    Args:
        runs: folder with the runs of both stages, `pretrain` and `gan`.
    """
    port = free_port()
    argv = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", str(port)]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    next(line for line in server.stderr if "http" in line)
    tabs = []
    with _browser(server) as browser:
        for tab, box in (("custom_scalars", (330, 64, 1045, 400)), ("images", (330, 116, 1075, 690))):
            browser.driver.get("about:blank")
            browser.driver.get(f"http://localhost:{port}/#{tab}")
            texts, pictures = TABS[tab]
            browser.until(lambda texts=texts: all(text in text_of(browser) for text in texts), 60)
            browser.until(lambda pictures=pictures: pictures_of(browser) >= pictures, 60)
            time.sleep(5)
            tabs.append(_shoot(browser).crop(box))
    page = Image.new("RGB", (max(tab.width for tab in tabs), sum(tab.height for tab in tabs)), "white")
    for tab, top in zip(tabs, (0, tabs[0].height), strict=True):
        page.paste(tab, (0, top))
    page.save(DOCS / "tensorboard.jpg", quality=85)


@contextlib.contextmanager
def _browser(server: subprocess.Popen) -> Iterator[Browser]:
    """A browser of a desk's size; it and the server end with the block."""
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.resize(1280, 860)
            yield browser
        finally:
            browser.driver.quit()
            server.terminate()
            server.wait()


def _shoot(browser: Browser) -> Image.Image:
    """What the page looks like now."""
    with tempfile.TemporaryDirectory() as folder:
        browser.shoot(Path(folder) / "page.png")
        return Image.open(Path(folder) / "page.png").convert("RGB")


def _is_loaded(picture) -> bool:
    """Whether the browser has a picture's pixels."""
    return picture.get_property("naturalWidth") > 0


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"demo": demo, "board": board})
