import numpy as np
from PIL import Image

from gan_color.contact_sheet import contact_sheet, join


def colours(page: Image.Image) -> set[tuple[int, int, int]]:
    return {colour for _, colour in page.getcolors(1 << 24)}


def test_every_photograph_is_on_the_page_whole():
    names = ("red", "lime", "blue", "yellow", "cyan")
    pictures = [Image.new("RGB", (300, 100 + 60 * i), name) for i, name in enumerate(names)]
    page = contact_sheet("title", [("row one", pictures[:3]), ("", pictures[3:])], ("grey", "fake", "real"), side=60)
    seen = np.asarray(page).reshape(-1, 3)
    for i, name in enumerate(names):
        count = (seen == np.array(Image.new("RGB", (1, 1), name).getpixel((0, 0)))).all(axis=1).sum()
        scale = 60 / max(300, 100 + 60 * i)
        assert abs(count - 300 * (100 + 60 * i) * scale**2) <= 60


def test_any_name_fits():
    plain = Image.new("RGB", (10, 10))
    page = contact_sheet("t", [("日本 " + "long name " * 90, [plain])], side=100)
    assert page.width == contact_sheet("t", [("", [plain])], side=100).width


def test_pages_join_in_either_direction():
    pages = [Image.new("RGB", (30, 40), "red"), Image.new("RGB", (50, 20), "blue")]
    wide, tall = join(pages), join(pages, downwards=True)
    assert wide.height == 40 and wide.width > 80 and tall.width == 50 and tall.height > 60
    for page in (wide, tall):
        assert {(255, 0, 0), (0, 0, 255)} < colours(page)
