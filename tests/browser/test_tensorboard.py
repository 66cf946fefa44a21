"""TensorBoard as a user sees it, on a small run of both stages."""

import json
import shutil
from pathlib import Path

import pytest
from chromium import free_port, open_browser, serve  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(pretrained, photo_folder, tmp_path_factory, serve):  # noqa: F811
    from conftest import TINY

    from gan_color.__main__ import main

    runs = tmp_path_factory.mktemp("board")
    shutil.copytree(pretrained, runs / "pretrain")
    options = ["--data", str(photo_folder), "--out", str(runs / "gan"), "--generator", str(pretrained), *TINY]
    main(["gan", *options, "--max-steps", "2"])
    main(["gan", "--resume", "--out", str(runs / "gan"), "--max-steps", "4"])
    port = free_port()
    server = serve("tensorboard.main", "--logdir", str(runs), "--port", str(port), ready="http://")
    server.url, server.runs = f"http://localhost:{port}", runs
    return server


def last_of(run: Path, tag: str) -> str:
    """A tag's last value as TensorBoard writes it in its table."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return f"{[line[tag] for line in lines if tag in line][-1]:#.5g}"


def text_of(browser) -> str:
    """All text in the page, TensorBoard's shadow trees included."""
    return browser.driver.execute_script(
        "const walk = n => (n.nodeType == 3 ? n.data : '') + [...(n.shadowRoot ? n.shadowRoot.childNodes : []),"
        " ...n.childNodes].map(walk).join(' '); return walk(document.body)"
    )


def pictures_of(browser) -> int:
    """Pictures in the page that have been loaded."""
    return browser.driver.execute_script(
        "const walk = n => (n.tagName == 'IMG' && n.naturalWidth > 60 ? 1 : 0) + [...(n.shadowRoot ?"
        " n.shadowRoot.childNodes : []), ...n.childNodes].map(walk).reduce((a, b) => a + b, 0);"
        " return walk(document.body)"
    )


TABS = {
    "timeseries": (["accuracy_fake", "loss", "samples", "pretrain"], 0),
    "images": (["samples/val", "samples/train", "step"], 2),
    "custom_scalars": (["losses of generator and discriminator", "colourfulness, fake and real"], 0),
    "hparams": (["lambda_l1", "batch_size", "val/psnr", "val/l1"], 0),
    "text": (["config", "lambda_l1"], 0),
}


def test_a_run_of_both_stages_is_found_in_each_tab(page, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(page.url)
    for tab, (texts, pictures) in TABS.items():
        browser.driver.get("about:blank")
        browser.driver.get(f"{page.url}/#{tab}")
        if tab == "hparams":
            texts = [*texts, *(last_of(page.runs / run, "val/l1") for run in ("pretrain", "gan"))]
        for text in texts:
            browser.until(lambda text=text: text in text_of(browser), 30)
        browser.until(lambda pictures=pictures: pictures_of(browser) >= pictures, 30)
        for width in (390, 1280):
            browser.resize(width)
            browser.shoot(tmp_path / f"tensorboard-{tab}-{width}.png")
    assert browser.hosts() == {"localhost"}
    assert browser.complaints() == []
    assert page.asked() <= {"localhost", "127.0.0.1", "::1"}
