"""The page in the browser: click to picture beside the command, 1024x768; many uploads of 320x240 in a row.

python benchmarks/demo_page.py checkpoints/photos/gan --uploads 200

Needs chromium and chromedriver. Prints, of the server: its memory, and the files in its temporary folder.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage.data
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests" / "browser"), str(PROJECT / "tests"), str(PROJECT)]

from chromium import Browser, choose, free_port  # noqa: E402

from gan_color import colorize, load_generator  # noqa: E402
from gan_color.errors import one_line_errors  # noqa: E402

_REPEATS = 7


def memory_of(pid: int) -> float:
    """Resident memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def click_to_picture(browser: Browser, photograph: Path, width: int) -> float:
    """Upload a photograph, click, wait until the slider shows it: seconds from the click on."""
    choose(browser, photograph)
    browser.until(lambda: photograph.stem in browser.find("#photographs").text)
    begun = time.perf_counter()
    browser.click("#colour")
    browser.until(
        lambda: (
            photograph.name in browser.find("#slider").text
            and [each.get_property("naturalWidth") for each in browser.all("#slider img")] == [width] * 2
        )
    )
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--uploads", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, port = Path(folder), free_port()
        picture = Image.fromarray(skimage.data.coffee()).convert("L").resize((1024, 768))
        photographs = [work / f"photo{number:03d}.jpg" for number in range(max(asked.uploads, _REPEATS))]
        small = picture.resize((320, 240))
        for number, path in enumerate(photographs[:_REPEATS]):
            picture.putpixel((number, 0), 255)
            picture.save(path, quality=90)
        options = ["--checkpoint", asked.checkpoint, "--device", "cpu"]
        command = [sys.executable, "-m", "gan_color"]

        generator, seconds = load_generator(asked.checkpoint), []
        for path in photographs[:_REPEATS]:
            begun = time.perf_counter()
            colorize(generator, path).save(work / "coloured.png")
            seconds.append(time.perf_counter() - begun)
        print(f"colorize() and saving, in one process: {statistics.median(seconds):.2f} s (median of {_REPEATS})")
        seconds = []
        for path in photographs[:3]:
            begun = time.perf_counter()
            out = ["--output", str(work / "out" / path.name)]
            subprocess.run([*command, "colorize", str(path), *options, *out], check=True, capture_output=True)
            seconds.append(time.perf_counter() - begun)
        print(f"gan-color colorize, with its start: {statistics.median(seconds):.2f} s (median of 3)", flush=True)

        temporary = work / "temporary"
        temporary.mkdir()
        env = os.environ | {"TMPDIR": str(temporary)}
        server = subprocess.Popen([*command, "demo", *options, "--port", str(port)], stdout=subprocess.PIPE, env=env)
        server.stdout.readline()
        browser = Browser(work)
        try:
            browser.driver.get(f"http://127.0.0.1:{port}")
            browser.find("#colour")
            at_rest = sum(path.is_file() for path in temporary.rglob("*"))
            seconds = [click_to_picture(browser, path, 1024) for path in photographs[:_REPEATS]]
            print(f"click to picture: {statistics.median(seconds):.2f} s (median of {_REPEATS})", flush=True)
            for number, path in enumerate(photographs[: asked.uploads], start=1):
                small.putpixel((number, 0), 255)
                small.save(path, quality=90)
                click_to_picture(browser, path, 320)
                if number in (1, 10) or number % 25 == 0:
                    files = sum(path.is_file() for path in temporary.rglob("*"))
                    print(f"upload {number}: {memory_of(server.pid):.0f} MiB, {files} files", flush=True)
            browser.driver.get("about:blank")
            time.sleep(5)
            files = sum(path.is_file() for path in temporary.rglob("*"))
            print(
                f"page closed: {memory_of(server.pid):.0f} MiB, {files} files, {at_rest} of them before the first visit"
            )
        finally:
            browser.driver.quit()
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        print(f"server ended: {sum(path.is_file() for path in temporary.rglob('*'))} files")


if __name__ == "__main__":
    with one_line_errors("demo_page.py"):
        main()
