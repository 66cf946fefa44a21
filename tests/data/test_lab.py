import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab
from torch import Tensor

from gan_color.color import lab_to_rgb, to_lab_units
from gan_color.data import loading
from gan_color.data.lab import LabDataset, loader, read_batches
from gan_color.data.order import RunOrder, steps_per_epoch
from gan_color.data.photos import find_photos, read_rgb
from gan_color.errors import GanColorError, PhotoError, UsageError, shown

# Levels that red rises by a pixel to the right, and green by a pixel down, in the drawn gradient.
RISE = 0.8


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def lab_of(item: tuple[Tensor, Tensor]) -> np.ndarray:
    return to_lab_units(item[0][None], item[1][None])[0].permute(1, 2, 0).numpy()


def rgb_of(item: tuple[Tensor, Tensor]) -> np.ndarray:
    return lab_to_rgb(item[0][None], item[1][None])[0].permute(1, 2, 0).numpy()


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def draw_gradient(width: int, height: int) -> Image.Image:
    """Red tells how far right a pixel lies, green how far down."""
    right, down = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack([right * RISE, down * RISE, np.full((height, width), 60)], axis=2)
    return Image.fromarray(np.uint8(rgb.round()))


def crop_of(item: tuple[Tensor, Tensor]) -> tuple[float, float, float, float, bool]:
    """Where in the gradient an item was cut: left, top, width, height in pixels, and whether it is mirrored."""
    rgb = rgb_of(item).astype(float)
    size = len(rgb)
    inside = np.arange(2, size - 2)  # the filter bends the ends
    across, at_left = np.polyfit(inside + 0.5, rgb[:, inside, 0].mean(axis=0), 1)
    down, at_top = np.polyfit(inside + 0.5, rgb[inside, :, 1].mean(axis=1), 1)
    mirrored = bool(across < 0)
    if mirrored:
        at_left += across * size
    # Pixel i shows the gradient at i + 0.5.
    left, top = at_left / RISE + 0.5, at_top / RISE + 0.5
    return left, top, abs(across) * size / RISE, down * size / RISE, mirrored


@pytest.fixture(scope="module")
def gradient(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("gradient") / "gradient.png", draw_gradient(300, 200))


# Items


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [32, 100])
def test_an_item_is_lightness_and_colour(photo_folder, size, train):
    for L, ab in LabDataset(find_photos(photo_folder), size, train):
        assert (L.shape, ab.shape) == ((1, size, size), (2, size, size))
        assert (L.dtype, ab.dtype) == (torch.float32, torch.float32)
        assert L.is_contiguous() and ab.is_contiguous()
        assert -1 <= L.min() <= L.max() <= 1 + 1e-6
        assert ab.abs().max() <= 1
        assert ab.abs().max() > 0.1


def test_black_white_and_red_have_their_known_lab_values(tmp_path):
    known = {"black": (0, 0, 0), "white": (100, 0, 0), "red": (53.24, 80.09, 67.20)}
    for name, expected in known.items():
        dataset = LabDataset([saved(tmp_path / f"{name}.png", Image.new("RGB", (9, 9), name))], size=8)
        np.testing.assert_allclose(lab_of(dataset[0]), np.broadcast_to(expected, (8, 8, 3)), atol=0.02)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 64), (64, 96), (90, 90), (40, 40), (200, 100), (50, 70)])
def test_without_training_an_item_is_the_middle_square_as_pillow_resizes_it(tmp_path, width, height):
    size = 32
    photo = draw_photo(1, width, height)
    dataset = LabDataset([saved(tmp_path / "photo.png", photo)], size)
    # The whole photograph resized by the same factor, then cut: what lies outside the square is seen alike.
    side = min(width, height)
    whole = photo.resize((width * size // side, height * size // side), Image.Resampling.BICUBIC)
    if (width * size) % side or (height * size) % side:
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        middle = photo.resize((size, size), Image.Resampling.BICUBIC, box)
    else:
        left, top = (whole.width - size) // 2, (whole.height - size) // 2
        middle = whole.crop((left, top, left + size, top + size))
    shown_rgb = rgb_of(dataset[0])
    assert np.abs(shown_rgb.astype(int) - np.asarray(middle)).max() <= 1
    assert np.abs(lab_of(dataset[0]) - rgb2lab(shown_rgb)).max() < 1e-3
    assert np.array_equal(dataset.rgb(0), shown_rgb)


def test_real_photographs_are_resized_as_pillow_does_but_for_single_pixels(shared):
    paths = find_photos(shared / "data" / "scenes" / "val")[::12]
    dataset = LabDataset(paths, 96, resize="squash")
    for path, number in zip(paths, range(len(paths)), strict=True):
        pillows = read_rgb(path, min_side=96).resize((96, 96), Image.Resampling.BICUBIC)
        off = np.abs(dataset.photo(number).astype(int) - np.asarray(pillows))
        assert off.mean() < 0.3 and (off > 1).mean() < 1e-3 and off.max() <= 8, path.name


def test_a_photograph_is_brought_to_the_smallest_size_that_every_crop_is_taken_from(tmp_path):
    paths = [saved(tmp_path / f"{size}.png", draw_photo(1, *size)) for size in ((300, 200), (90, 160), (80, 64))]
    dataset = LabDataset(paths, 64, train=True, min_crop=0.6)
    assert [dataset.photo(number).shape for number in range(3)] == [(107, 160, 3), (160, 90, 3), (64, 80, 3)]
    assert LabDataset(paths, 64).photo(0).shape == (64, 64, 3)


def test_without_training_an_item_is_always_the_same(photo_folder):
    paths = find_photos(photo_folder)
    one, other = LabDataset(paths, 32, seed=1, crops=2), LabDataset(paths, 32, seed=2, crops=2)
    for index in range(24):
        assert same(one[index], one[3, index])
        assert same(one[index], other[index])
        assert same(one[index], one[index // 2 * 2])


@pytest.mark.parametrize("train", [False, True])
def test_a_jpeg_decoded_small_gives_nearly_the_item_of_the_whole(tmp_path, train):
    # Detail down to 3 pixels, on top of broad colours: what is decoded too small is seen to be blurred.
    specks = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8))
    detail = specks.resize((1200, 896), Image.Resampling.NEAREST).convert("RGB")
    Image.blend(draw_photo(2, 1200, 896), detail, 0.4).save(tmp_path / "photo.jpg", quality=95)
    Image.open(tmp_path / "photo.jpg").save(tmp_path / "photo.png")
    options = {"size": 200, "train": train, "crops": 6, "min_crop": 0.3}
    of_jpeg, of_png = (LabDataset([tmp_path / name], **options) for name in ("photo.jpg", "photo.png"))
    for one, other in zip(of_jpeg, of_png, strict=True):
        assert np.abs(lab_of(one) - lab_of(other)).mean() < 1.2


@pytest.mark.parametrize("train", [False, True])
def test_a_photograph_smaller_than_the_square_is_enlarged(tmp_path, train):
    dataset = LabDataset([saved(tmp_path / "small.png", Image.new("RGB", (20, 10), (200, 60, 30)))], 64, train)
    rgb = rgb_of(dataset[0])
    assert rgb.shape == (64, 64, 3)
    assert (rgb == (200, 60, 30)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2)])
@pytest.mark.parametrize("train", [False, True])
def test_the_smallest_photographs_still_give_items(tmp_path, size, train):
    dataset = LabDataset([saved(tmp_path / "tiny.png", Image.new("RGB", size, (10, 200, 90)))], 32, train)
    assert (rgb_of(dataset[0]) == (10, 200, 90)).all()


# Augmentation


def test_in_training_an_item_depends_on_seed_epoch_and_index_alone(photo_folder):
    paths = find_photos(photo_folder)
    items = [(epoch, index) for epoch in range(2) for index in range(12)]
    one, other = (LabDataset(paths, 32, train=True, seed=7) for _ in range(2))
    forwards = {item: one[item] for item in items}
    torch.manual_seed(0)
    np.random.default_rng(0)
    for item in np.random.default_rng(0).permutation(items).tolist():
        assert same(forwards[tuple(item)], other[tuple(item)])


def test_an_index_without_an_epoch_is_that_of_the_first(photo_folder):
    dataset = LabDataset(find_photos(photo_folder), 32, train=True)
    assert same(dataset[3], dataset[0, 3])


def test_each_epoch_seed_and_index_crops_anew(gradient):
    crops = []
    for seed in range(3):
        dataset = LabDataset([gradient], 32, train=True, seed=seed, crops=3)
        crops += [crop_of(dataset[epoch, index])[:2] for epoch in range(3) for index in range(3)]
    assert len({(round(left), round(top)) for left, top in crops}) > 24


def test_every_crop_is_square_lies_inside_and_is_large_enough(gradient):
    dataset = LabDataset([gradient], 48, train=True, crops=150, min_crop=0.5)
    crops = np.array([crop_of(item)[:4] for item in dataset])
    left, top, width, height = crops.T
    np.testing.assert_allclose(width, height, atol=2)
    assert width.min() >= 100 - 1.5
    assert width.max() <= 200 + 1.5
    assert left.min() >= -1.5 and (left + width).max() <= 300 + 1.5
    assert top.min() >= -1.5 and (top + height).max() <= 200 + 1.5
    # The whole range is used.
    assert width.min() < 105 and width.max() > 190
    assert left.min() < 15 and (left + width).max() > 285
    assert top.min() < 5 and (top + height).max() > 195


def test_half_of_the_items_are_mirrored(gradient):
    dataset = LabDataset([gradient], 32, train=True, crops=400)
    mirrored = [crop_of(item)[4] for item in dataset]
    assert 160 <= sum(mirrored) <= 240


def test_nothing_is_mirrored_or_moved_without_training(gradient):
    left, top, width, height, mirrored = crop_of(LabDataset([gradient], 50)[0])
    np.testing.assert_allclose((left, top, width, height), (50, 0, 200, 200), atol=1)
    assert not mirrored


def test_a_smallest_crop_of_one_takes_the_whole_short_side(gradient):
    dataset = LabDataset([gradient], 40, train=True, crops=20, min_crop=1.0)
    for item in dataset:
        _, top, width, height, _ = crop_of(item)
        np.testing.assert_allclose((top, width, height), (0, 200, 200), atol=1.5)


def test_a_circle_stays_round_in_every_crop(tmp_path):
    right, down = np.meshgrid(np.arange(240), np.arange(400))
    disc = (right - 120) ** 2 + (down - 200) ** 2 < 50**2
    photo = Image.fromarray(np.where(disc[..., None], np.uint8((230, 30, 30)), np.uint8((30, 30, 230))))
    dataset = LabDataset([saved(tmp_path / "disc.png", photo)], 96, train=True, crops=60, min_crop=0.9)
    whole = 0
    for item in dataset:
        red = rgb_of(item)[..., 0] > 128
        across, down = np.flatnonzero(red.any(axis=0)), np.flatnonzero(red.any(axis=1))
        if min(across[0], down[0]) > 0 and max(across[-1], down[-1]) < 95:
            whole += 1
            assert abs(len(across) - len(down)) <= 1
    assert whole > 20


@pytest.mark.parametrize("train", [False, True])
def test_squashing_shows_the_whole_photograph_as_pillow_does(gradient, train):
    items = LabDataset([gradient], 100, train, crops=8, resize="squash")
    whole = np.asarray(Image.open(gradient).resize((100, 100), Image.Resampling.BICUBIC))
    seen = [rgb_of(item) for item in items]
    assert all(np.array_equal(rgb, whole) or np.array_equal(rgb, whole[:, ::-1]) for rgb in seen)
    assert len({rgb.tobytes() for rgb in seen}) == (2 if train else 1)


@pytest.mark.parametrize(("turned", "margins"), [(False, (0, 17)), (True, (17, 0))])
def test_padding_keeps_the_aspect_and_repeats_the_edges(gradient, tmp_path, turned, margins):
    photo = Image.open(gradient)
    path = saved(tmp_path / "photo.png", photo.transpose(Image.Transpose.ROTATE_90) if turned else photo)
    rgb = rgb_of(LabDataset([path], 100, resize="pad")[0])
    # 300x200 becomes 100x67: 16 rows of the square are left above and 17 below.
    left, top = (max(0, margin - 1) for margin in margins)
    inside = rgb[top : 100 - margins[1], left : 100 - margins[0]]
    assert np.array_equal(inside, np.asarray(Image.open(path).resize(inside.shape[1::-1], Image.Resampling.BICUBIC)))
    ends = rgb.swapaxes(0, 1) if turned else rgb
    assert (ends[:16] == ends[16]).all() and (ends[83:] == ends[82]).all()


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_a_large_jpeg_resized_whole_is_nearly_that_of_all_its_pixels(tmp_path, resize):
    photo = draw_photo(3, 900, 500)
    photo.save(tmp_path / "photo.jpg", quality=95)
    photo.save(tmp_path / "photo.png")
    ours, whole = (rgb_of(LabDataset([tmp_path / f"photo.{kind}"], 64, resize=resize)[0]) for kind in ("jpg", "png"))
    assert np.abs(ours.astype(int) - whole).mean() < 3


def test_crops_repeat_each_photograph_with_other_crops(tmp_path):
    colours = [(200, 50, 50), (50, 200, 50), (50, 50, 200)]
    flat = [saved(tmp_path / f"{i}.png", Image.new("RGB", (40, 30), colour)) for i, colour in enumerate(colours)]
    dataset = LabDataset(flat, 16, train=True, crops=4)
    assert len(dataset) == 12
    for index, item in enumerate(dataset):
        assert (rgb_of(item) == colours[index // 4]).all()
    varied = LabDataset([saved(tmp_path / "varied.png", draw_photo(3))], 16, train=True, crops=4)
    for index in range(1, 4):
        assert not same(varied[0], varied[index])


# As a sequence


def test_an_index_past_the_end_is_an_index_error(photo_folder):
    dataset = LabDataset(find_photos(photo_folder), 16, crops=2)
    for item in (24, -25, (0, 24), (5, -25)):
        with pytest.raises(IndexError):
            dataset[item]


def test_a_negative_index_counts_from_the_end(photo_folder):
    dataset = LabDataset(find_photos(photo_folder), 16, train=True)
    assert same(dataset[-1], dataset[11])
    assert same(dataset[-12], dataset[0])
    assert same(dataset[2, -1], dataset[2, 11])


def test_iteration_ends(photo_folder):
    dataset = LabDataset(find_photos(photo_folder), 16, crops=2)
    items = list(dataset)
    assert len(items) == len(dataset) == 24
    assert same(items[5], dataset[5])
    assert list(LabDataset([])) == []


def test_paths_may_be_strings(photo_folder):
    paths = find_photos(photo_folder)
    assert same(LabDataset([str(path) for path in paths], 16)[4], LabDataset(paths, 16)[4])


def test_a_photograph_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no photograph")
    with pytest.raises(PhotoError, match="^" + str(tmp_path / "text.jpg")):
        LabDataset([tmp_path / "text.jpg"])[0]


# The order of a run


def numbers(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least, most)


@given(num_items=numbers(1, 70), batch_size=numbers(1, 20), seed=numbers(0, 2**63 - 1))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_an_epoch_visits_each_item_at_most_once_and_all_but_the_remainder(num_items, batch_size, seed):
    batch_size = min(batch_size, num_items)
    per_epoch = steps_per_epoch(num_items, batch_size)
    batches = list(RunOrder(num_items, batch_size, 0, 3 * per_epoch, seed))
    assert len(batches) == 3 * per_epoch
    for epoch in range(3):
        items = list(chain.from_iterable(batches[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert {its_epoch for its_epoch, _ in items} == {epoch}
        indexes = [index for _, index in items]
        assert len(set(indexes)) == len(indexes) == num_items - num_items % batch_size
        assert set(indexes) <= set(range(num_items))
    assert all(len(batch) == batch_size for batch in batches)


def indexes_of(order: RunOrder) -> list[int]:
    return [index for batch in order for _, index in batch]


def test_what_is_left_over_differs_between_epochs():
    seen = [set(indexes_of(RunOrder(10, 7, epoch, epoch + 1, 0))) for epoch in range(30)]
    assert set.union(*seen) == set(range(10))
    assert len({frozenset(epoch) for epoch in seen}) > 10


def test_the_order_differs_between_epochs_and_seeds_and_is_shuffled():
    orders = {
        tuple(indexes_of(RunOrder(50, 10, epoch * 5, epoch * 5 + 5, seed))) for epoch in range(4) for seed in (0, 1)
    }
    assert len(orders) == 8
    assert tuple(range(50)) not in orders
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_the_order_is_the_same_each_time():
    order = RunOrder(50, 8, 0, 20, 3)
    assert list(order) == list(order) == list(RunOrder(50, 8, 0, 20, 3))


@given(num_items=numbers(1, 40), batch_size=numbers(1, 12), steps=numbers(0, 30), data=st.data())
@settings(deadline=None, max_examples=80, derandomize=True)
def test_a_run_taken_up_at_any_step_goes_on_as_if_it_had_not_stopped(num_items, batch_size, steps, data):
    batch_size = min(batch_size, num_items)
    first_step = data.draw(numbers(0, steps))
    whole = list(RunOrder(num_items, batch_size, 0, steps, 5))
    rest = RunOrder(num_items, batch_size, first_step, steps, 5)
    assert list(rest) == whole[first_step:]
    assert len(rest) == steps - first_step


@given(num_items=numbers(1, 60), batch_size=numbers(1, 16), world=numbers(1, 6), first_step=numbers(0, 12))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_the_parts_of_all_processes_join_to_the_batch_of_one(num_items, batch_size, world, first_step):
    batch_size = min(batch_size, num_items)
    alone = list(RunOrder(num_items, batch_size, first_step, 15, 9))
    parts = [list(RunOrder(num_items, batch_size, first_step, 15, 9, rank, world)) for rank in range(world)]
    for batch, *shares in zip(alone, *parts, strict=True):
        assert list(chain.from_iterable(shares)) == batch
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_steps_per_epoch_counts_whole_batches():
    assert [steps_per_epoch(items, 4) for items in (4, 5, 7, 8, 9)] == [1, 1, 1, 2, 2]


def test_too_few_photographs_for_a_batch_are_refused_with_a_cure():
    with pytest.raises(
        UsageError, match=r"^--batch-size 9 .*the 5 photographs.*lower it to 5, or raise --crops"
    ) as caught:
        steps_per_epoch(5, 9)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UsageError):
        steps_per_epoch(0, 1)


# Loading in the background


@pytest.fixture(autouse=True)
def end_left_over_workers():
    """Worker processes that outlive their test would keep pytest from ending."""
    yield
    heard_by = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises where it hears of a killed worker
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    signal.signal(signal.SIGCHLD, heard_by)


def batches_of(folder: Path, workers: int, first_step: int = 0, last_step: int = 8) -> list[tuple[Tensor, Tensor]]:
    """12 photographs x 2 crops in batches of 7: three steps an epoch."""
    dataset = LabDataset(find_photos(folder), 32, train=True, seed=4, crops=2)
    return list(read_batches(loader(dataset, RunOrder(24, 7, first_step, last_step, 4), workers)))


@pytest.fixture(scope="module")
def without_workers(photo_folder) -> list[tuple[Tensor, Tensor]]:
    return batches_of(photo_folder, 0)


def test_batches_are_stacked_items(photo_folder, without_workers):
    assert len(without_workers) == 8
    for L, ab in without_workers:
        assert (L.shape, ab.shape) == ((7, 1, 32, 32), (7, 2, 32, 32))
    dataset = LabDataset(find_photos(photo_folder), 32, train=True, seed=4, crops=2)
    for step, batch in enumerate(RunOrder(24, 7, 0, 8, 4)):
        for place, item in enumerate(batch):
            assert same(dataset[item], (without_workers[step][0][place], without_workers[step][1][place]))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_with_any_number_of_workers(photo_folder, without_workers, workers):
    for one, other in zip(without_workers, batches_of(photo_folder, workers), strict=True):
        assert same(one, other)


@pytest.mark.parametrize(("first_step", "workers"), [(1, 0), (3, 1), (5, 2), (7, 0), (8, 1)])
def test_batches_of_a_run_taken_up_are_those_of_the_whole(photo_folder, without_workers, first_step, workers):
    rest = batches_of(photo_folder, workers, first_step)
    for one, other in zip(without_workers[first_step:], rest, strict=True):
        assert same(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_lists_of_indexes_gives_them_in_order(photo_folder, workers):
    dataset = LabDataset(find_photos(photo_folder), 16)
    parts = [range(0, 5), range(5, 10), range(10, 12)]
    batches = list(read_batches(loader(dataset, parts, workers)))
    assert [len(L) for L, _ in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([L for L, _ in batches]), torch.stack([L for L, _ in dataset]))


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_random_numbers_of_training_alone(photo_folder, workers):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    batches_of(photo_folder, workers, 6)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["photo05.png", "new\nline.png", os.fsdecode(b"bytes \xff.png")])
def test_a_photograph_that_vanishes_during_the_run_is_an_error_of_one_line(tmp_path, photo_folder, workers, name):
    shutil.copytree(photo_folder, tmp_path / "photos")
    vanishing = tmp_path / "photos" / name
    try:
        (tmp_path / "photos" / "photo05.png").rename(vanishing)
    except OSError:
        pytest.skip("this file system has no such names")
    dataset = LabDataset(find_photos(tmp_path / "photos"), 32, train=True)
    with closing(read_batches(loader(dataset, RunOrder(12, 4, 0, 60, 0), workers))) as batches:
        next(batches)
        vanishing.unlink()
        with pytest.raises(PhotoError) as caught:
            list(batches)
    assert type(caught.value) is PhotoError
    assert str(caught.value) == f"{shown(vanishing)}: No such file or directory"
    assert len(str(caught.value).splitlines()) == 1


def test_workers_outlive_the_signals_that_every_process_of_a_run_may_get(photo_folder):
    before = set(multiprocessing.active_children())
    dataset = LabDataset(find_photos(photo_folder), 32, train=True)
    with closing(read_batches(loader(dataset, RunOrder(12, 4, 0, 40, 0), 2))) as batches:
        next(batches)
        next(batches)  # one batch of each worker: both have begun
        workers = set(multiprocessing.active_children()) - before
        assert len(workers) == 2
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for worker in workers:
                os.kill(worker.pid, signum)
            next(batches)
        assert sum(1 for _ in batches) == 35
    for worker in workers:
        worker.join(10)
        assert worker.exitcode == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_read_in_any_thread_and_a_handler_of_the_callers_stays(photo_folder, workers):
    dataset, heard = LabDataset(find_photos(photo_folder), 32), []

    def read() -> None:
        heard.append(len(list(read_batches(loader(dataset, [[0], [1]], workers)))))

    before = signal.signal(signal.SIGCHLD, own := lambda *_: None)
    try:
        read()
        assert signal.getsignal(signal.SIGCHLD) is own
    finally:
        signal.signal(signal.SIGCHLD, before)
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert heard == [2, 2]


def test_workers_end_when_a_run_is_given_up(photo_folder):
    before = set(multiprocessing.active_children())
    dataset = LabDataset(find_photos(photo_folder), 32, train=True)
    with closing(read_batches(loader(dataset, RunOrder(12, 4, 0, 400, 0), 1))) as batches:
        next(batches)
        (worker,) = set(multiprocessing.active_children()) - before
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [("return batches", 0), ("1 / 0", 1), ("paths[5].unlink(); list(batches)", 1), ("raise Stopped(15, 'saved')", 143)],
    ids=["at its end", "by a fault of the code", "by a photograph that vanished", "by a signal"],
)
def test_a_process_ends_though_it_is_still_loading(tmp_path, photo_folder, end, code):
    shutil.copytree(photo_folder, tmp_path / "photos")
    script = f"""
from pathlib import Path
from gan_color.data.lab import LabDataset, loader, read_batches
from gan_color.data.order import RunOrder
from gan_color.data.photos import find_photos
from gan_color.errors import Stopped, one_line_errors

def run():
    paths = find_photos(Path({str(tmp_path / "photos")!r}))
    batches = read_batches(loader(LabDataset(paths, 32, train=True), RunOrder(12, 4, 0, 400, 0), 1))
    next(batches)
    print("loading", flush=True)
    {end}

with one_line_errors("program"):
    kept = run()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            assert process.stdout.readline() == "loading\n"
            assert process.wait(timeout=10) == code
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def killed_while_loading(photo_folder, kills_at: Collection[int]) -> list[tuple[Tensor, Tensor]]:
    """The batches of two workers, more than they read ahead; both are killed after each of `kills_at`."""
    dataset = LabDataset(find_photos(photo_folder), 32, train=True, seed=4, crops=2)
    read, before = [], set(multiprocessing.active_children())
    with closing(read_batches(loader(dataset, RunOrder(24, 7, 0, 30, 4), 2))) as batches:
        for number, batch in enumerate(batches):
            read.append(batch)
            if number in kills_at:
                for worker in set(multiprocessing.active_children()) - before:
                    worker.kill()
                    worker.join()
                _ = sum(range(10000))  # nothing is raised in the middle of what follows
    return read


def test_a_worker_that_dies_is_replaced_at_the_same_batch(photo_folder, capsys, monkeypatch):
    monkeypatch.setattr(loading, "_LOOK_EVERY", 1)
    read = killed_while_loading(photo_folder, [2])
    assert "loading begins anew at the same batch" in capsys.readouterr().out
    assert len(read) == 30
    for one, other in zip(batches_of(photo_folder, 0, last_step=30), read, strict=True):
        assert same(one, other)


def test_workers_that_die_again_are_an_error_with_the_cure(photo_folder, monkeypatch):
    monkeypatch.setattr(loading, "_LOOK_EVERY", 1)
    with pytest.raises(GanColorError, match=r"die \(.*--workers 0") as caught:
        killed_while_loading(photo_folder, range(1, 30))
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_stuck_is_an_error_that_names_what_it_reads(photo_folder, monkeypatch):
    class Stuck(LabDataset):
        def rgb(self, item):
            if item == 7:
                time.sleep(60)
            return super().rgb(item)

    monkeypatch.setattr(loading, "_LOOK_EVERY", 1)
    monkeypatch.setattr(loading, "_PATIENCE", 2)
    paths = find_photos(photo_folder)
    with closing(read_batches(loader(Stuck(paths, 16), [[0, 1], [6, 7]], 1))) as batches:
        next(batches)
        with pytest.raises(GanColorError, match="no batch in 2 seconds") as caught:
            next(batches)
    assert str(paths[6]) in str(caught.value) and str(paths[7]) in str(caught.value)


def test_full_shared_memory_is_one_line_with_the_cure(tmp_path, photo_folder):
    """A /dev/shm of 64 KiB of our own; needs the right to mount."""
    script = f"""
from pathlib import Path
from gan_color.data.lab import LabDataset, loader, read_batches
from gan_color.data.photos import find_photos
from gan_color.errors import one_line_errors
dataset = LabDataset(find_photos(Path({str(photo_folder)!r})), 128)
with one_line_errors("program"):
    list(read_batches(loader(dataset, [range(4)] * 4, 1)))
"""
    alone = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "-"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    ended = subprocess.run([*alone, sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "--workers 0" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
