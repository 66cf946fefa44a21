"""The page that colours photographs, as a visitor uses it."""

import re
import time
import zipfile
from pathlib import Path

import pytest
from chromium import Browser, choose, free_port, open_browser, serve  # noqa: F401
from conftest import draw_photo
from PIL import Image

from gan_color.__main__ import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(pretrained, serve):  # noqa: F811
    port = free_port()
    options = ["--checkpoint", str(pretrained), "--port", str(port), "--device", "cpu", "--max-megabytes", "60"]
    server = serve("gan_color", "demo", *options, ready="open http")
    server.url = f"http://127.0.0.1:{port}"
    return server


def files_of(page) -> list[Path]:
    """What visitors have left on the server."""
    (folder,) = page.temporary.glob("gan-color-demo-*")
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "grey"]


def send(browser: Browser, *paths: Path) -> None:
    """Upload photographs, and wait until the page lists them."""
    choose(browser, *paths)
    browser.until(lambda: len(browser.all("#photographs .file")) == len(paths))


def colour(browser: Browser, wait: float = 60) -> str:
    """Click, and say what the page says of what became of them."""
    before = said(browser)
    browser.click("#colour")
    return browser.until(lambda: (now := said(browser)) != before and now, wait)


def said(browser: Browser) -> str:
    return browser.find("#said textarea").get_property("value")


def sizes_of(browser: Browser) -> list[tuple[int, int]]:
    """Width and height of the slider's pictures; 0 before they are loaded."""
    return [
        (each.get_property("naturalWidth"), each.get_property("naturalHeight")) for each in browser.all("#slider img")
    ]


def download(browser: Browser, button: str) -> Path:
    here = set(browser.downloads.iterdir())
    browser.click(button)

    def arrived():
        new = set(browser.downloads.iterdir()) - here
        begun = [path for path in new if path.name.startswith(".") or path.suffix == ".crdownload"]
        return not begun and next((path for path in new if path.stat().st_size), None)

    return browser.until(arrived)


def coloured_by_the_command(pretrained: Path, out: Path, *photographs: Path) -> dict[str, bytes]:
    main(["colorize", *map(str, photographs), "--checkpoint", str(pretrained), "--output", str(out), "--device", "cpu"])
    return {path.name: path.read_bytes() for path in out.iterdir()}


def looks_right(page, browser: Browser, tmp_path: Path, name: str) -> None:
    """Keep what it looks like on a desk and on a telephone; nobody complained, and nobody elsewhere was asked."""
    for width in (390, 1280):
        browser.resize(width)
        time.sleep(0.3)
        browser.shoot(tmp_path / f"{name}-{width}.png")
        assert browser.fits(), width
    assert browser.hosts() == {"127.0.0.1"}
    assert browser.complaints() == []
    assert page.asked() == {"127.0.0.1"}
    assert "gan_color/" not in page.said.read_text()  # no traceback of ours


def test_a_download_is_the_file_that_the_command_writes(page, pretrained, open_browser, tmp_path):  # noqa: F811
    photograph = tmp_path / "grandmother.jpg"
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "on the beach", 6
    draw_photo(1, 1024, 768).convert("L").save(photograph, exif=exif)
    wanted = coloured_by_the_command(pretrained, tmp_path / "out", photograph)
    browser = open_browser(page.url)
    send(browser, photograph)
    assert colour(browser) == "coloured 1 of 1"
    browser.until(lambda: sizes_of(browser) == [(768, 1024)] * 2)
    assert download(browser, "#download").read_bytes() == wanted["grandmother.jpg"]
    browser.click("#histogram button")
    assert browser.find("#histogram img")
    looks_right(page, browser, tmp_path, "one")


def test_what_is_no_image_is_said_in_words_and_ten_are_coloured_beside_it(
    page,
    pretrained,
    open_browser,  # noqa: F811
    tmp_path,
):
    photographs = [tmp_path / f"photo{number}.png" for number in range(10)]
    for number, path in enumerate(photographs):
        draw_photo(number, 200, 150).convert("L").save(path)
    wanted = coloured_by_the_command(pretrained, tmp_path / "out", *photographs)
    broken = tmp_path / "notes.jpg"
    broken.write_text("<b>no</b> picture")
    browser = open_browser(page.url)
    send(browser, broken)
    assert re.fullmatch(r"coloured 0 of 1\nnotes.jpg: not a photograph in a format of [A-Z, ]+", colour(browser))
    browser.until(lambda: "not a photograph" in browser.find(".toast-body").text)
    send(browser, *photographs, broken)
    assert colour(browser).startswith("coloured 10 of 11\nnotes.jpg: not a photograph")
    assert len(browser.until(lambda: len(shown := browser.all("#results img")) == 10 and shown)) == 10
    looks_right(page, browser, tmp_path, "ten")
    with zipfile.ZipFile(download(browser, "#everything")) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == wanted
    browser.all("#results button.thumbnail-item")[3].click()
    browser.until(lambda: "photo3.png" in browser.find("#slider").text)
    assert download(browser, "#download").read_bytes() == wanted["photo3.png"]


def test_of_a_folder_those_that_are_named_as_photographs_are_coloured(page, open_browser, tmp_path):  # noqa: F811
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    draw_photo(1).convert("L").save(folder / "one.png")
    draw_photo(2).convert("L").save(folder / "deep" / "two.jpg")
    (folder / "notes.txt").write_text("a list")
    browser = open_browser(page.url)
    browser.until(lambda: browser.all("input[webkitdirectory]"))[0].send_keys(str(folder))
    browser.until(lambda: len(browser.all("#photographs .file")) == 2)
    assert said(browser) == "1 of 3 files are not named as photographs: left out"
    assert colour(browser) == "coloured 2 of 2"


def test_24_megapixels_are_coloured_at_their_size_and_too_large_a_file_is_refused(
    page,
    open_browser,  # noqa: F811
    tmp_path,
):
    large, too_large = tmp_path / "large.jpg", tmp_path / "too-large.png"
    draw_photo(2, 6000, 4000).save(large)
    too_large.write_bytes(bytes(61 * 10**6))
    browser = open_browser(page.url)
    send(browser, large)
    assert colour(browser).startswith("coloured 1 of 1")
    assert Image.open(download(browser, "#download")).size == (6000, 4000)
    choose(browser, too_large)
    browser.until(lambda: "size" in browser.find(".toast-body").text.lower())


def test_two_visitors_at_once_get_their_own_and_leave_nothing_behind(
    page,
    pretrained,
    open_browser,  # noqa: F811
    tmp_path,
):
    own = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, path in enumerate(own):
        draw_photo(20 + number, 300, 200).convert("L").save(path)
    wanted = coloured_by_the_command(pretrained, tmp_path / "out", *own)
    browsers = [open_browser(page.url) for _ in own]
    for browser, path in zip(browsers, own, strict=True):
        send(browser, path)
    for browser in browsers:
        browser.click("#colour")
    for browser, path in zip(browsers, own, strict=True):
        browser.until(lambda browser=browser: said(browser) == "coloured 1 of 1")
        assert download(browser, "#download").read_bytes() == wanted[path.name]
    assert files_of(page)
    for browser in browsers:
        browser.driver.get("about:blank")
    browsers[0].until(lambda: not files_of(page))
    assert page.asked() == {"127.0.0.1"}
    assert "gan_color/" not in page.said.read_text()  # no traceback of ours
