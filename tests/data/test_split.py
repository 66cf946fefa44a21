import shutil
from pathlib import Path

import pytest
from conftest import draw_photo
from test_sources import contents, draw_folder, find, refusal


@pytest.fixture(scope="module")
def sixty(tmp_path_factory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("sixty"), range(60))


# A folder, split by content


def test_about_the_asked_share_is_held_out(sixty):
    found = find(sixty)
    assert 1 <= len(found.val) <= 14
    assert len(found.train) + len(found.val) == 60
    assert not contents(found.train) & contents(found.val)
    half = find(sixty, val_share=0.5)
    assert 18 <= len(half.val) <= 42


def test_a_larger_share_holds_out_the_same_photographs_and_more(sixty):
    assert set(find(sixty, val_share=0.2).val) < set(find(sixty, val_share=0.5).val)


def test_both_sides_are_in_the_order_of_the_paths(sixty):
    found = find(sixty, val_share=0.5)
    assert found.train == sorted(found.train)
    assert found.val == sorted(found.val)


def test_a_photograph_stays_on_its_side_when_the_tree_moves_and_when_it_is_renamed(sixty, tmp_path):
    before = find(sixty, val_share=0.3)
    shutil.copytree(sixty, tmp_path / "moved" / "tree")
    moved = find(tmp_path / "moved" / "tree", val_share=0.3)
    assert [path.name for path in moved.val] == [path.name for path in before.val]
    renamed = tmp_path / "renamed"
    (renamed / "sub").mkdir(parents=True)
    for number, path in enumerate(sorted(sixty.iterdir(), reverse=True)):
        shutil.copy(path, renamed / ("sub" if number % 2 else ".") / f"{number}.jpg")
    after = find(renamed, val_share=0.3)
    assert contents(after.val) == contents(before.val)
    assert contents(after.train) == contents(before.train)


def test_photographs_stay_on_their_sides_when_others_join(sixty, tmp_path):
    before = find(sixty, val_share=0.3)
    shutil.copytree(sixty, tmp_path / "more")
    draw_folder(tmp_path / "more", range(60, 80))
    after = find(tmp_path / "more", val_share=0.3)
    assert contents(before.train) < contents(after.train)
    assert contents(before.val) < contents(after.val)


@pytest.mark.parametrize("val_share", [0.001, 0.1, 0.5, 0.999])
def test_two_photographs_give_one_to_each_side(tmp_path, val_share):
    for start in range(0, 10, 2):
        found = find(draw_folder(tmp_path / str(start), range(start, start + 2)), val_share=val_share)
        assert (len(found.train), len(found.val)) == (1, 1)


def test_one_photograph_cannot_be_split_even_if_it_is_there_twice(tmp_path):
    draw_folder(tmp_path, range(1))
    assert "give at least two" in refusal(tmp_path)
    shutil.copy(tmp_path / "photo00.png", tmp_path / "again.png")
    assert "give at least two" in refusal(tmp_path)


def test_copies_of_a_photograph_are_on_one_side(sixty, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(sixty, tmp_path / name)
    found = find(tmp_path, val_share=0.5)
    assert len(found.train) + len(found.val) == 120
    assert len(found.val) == 2 * len(contents(found.val))
    assert not contents(found.train) & contents(found.val)


# A folder with train and val in it


def test_own_train_and_val_subfolders_are_kept_apart(tmp_path):
    train, val = draw_folder(tmp_path / "train" / "sub", range(5)), draw_folder(tmp_path / "val", range(5, 12))
    draw_folder(tmp_path / "test", range(20, 22))
    found = find(tmp_path, val_share=0.5)
    assert found.train == sorted(train.iterdir())
    assert found.val == sorted(val.iterdir())
    assert found.report == []


def test_a_training_photograph_that_is_held_out_too_is_left_out_and_reported(tmp_path):
    draw_folder(tmp_path / "train", range(5))
    draw_folder(tmp_path / "val", range(5, 8))
    shutil.copy(tmp_path / "val" / "photo06.png", tmp_path / "train" / "other name.png")
    (tmp_path / "train" / "link.png").symlink_to(tmp_path / "val" / "photo07.png")
    found = find(tmp_path)
    assert [path.name for path in found.train] == [f"photo{seed:02}.png" for seed in range(5)]
    assert len(found.val) == 3
    assert found.report == ["held out for validation too: 2 training photographs"]


def test_a_side_with_nothing_left_is_refused(tmp_path):
    draw_folder(tmp_path / "train", range(2))
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert "no photograph to train on" in refusal(tmp_path)
    shutil.rmtree(tmp_path / "val")
    draw_folder(tmp_path / "val", range(2, 4), grey=True)
    assert "no photograph to validate on" in refusal(tmp_path)
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    assert f"{tmp_path / 'val'} holds no photographs" in refusal(tmp_path)


# Counts


def test_a_split_by_counts_has_them_exactly_and_no_photograph_twice(sixty, tmp_path):
    shutil.copytree(sixty, tmp_path / "copies")
    for data in (sixty, tmp_path):
        shutil.copytree(sixty, tmp_path / "more", dirs_exist_ok=True)
        found = find(data, split="41/11/5")
        sides = [contents(side) for side in (found.train, found.val, found.test)]
        assert [len(side) for side in sides] == [len(found.train), len(found.val), len(found.test)] == [41, 11, 5]
        assert len(set.union(*sides)) == 57
    assert find(sixty, split="41/11/5").report == ["beyond --split 41/11/5: 3 photographs"]


def test_a_split_by_counts_validates_on_what_a_share_would_hold_out(sixty):
    held_out = find(sixty, val_share=0.3).val
    assert find(sixty, split=f"20/{len(held_out)}").val == held_out


def test_a_split_by_counts_stays_when_the_tree_moves(sixty, tmp_path):
    shutil.copytree(sixty, tmp_path / "moved" / "tree")
    before, after = find(sixty, split="40/10/10"), find(tmp_path / "moved", split="40/10/10")
    for side in ("train", "val", "test"):
        assert [path.name for path in getattr(before, side)] == [path.name for path in getattr(after, side)]
    assert before.digest == after.digest != find(sixty, split="39/10/10").digest


def test_a_split_by_counts_takes_all_of_a_set_whatever_its_own_split(tmp_path):
    draw_folder(tmp_path / "train", range(5))
    draw_folder(tmp_path / "val", range(5, 8))
    found = find(tmp_path, split="2/6")
    assert (len(found.train), len(found.val), found.test, found.report) == (2, 6, [], [])


def test_more_photographs_than_there_are_cannot_be_split(sixty):
    assert "--split 50/9/2 asks for 61 photographs" in refusal(sixty, split="50/9/2")
    assert "has 60 that can be used" in refusal(sixty, split="50/9/2")


# What is left out


def test_near_grey_photographs_are_left_out_and_counted(tmp_path):
    draw_folder(tmp_path, range(4))
    draw_folder(tmp_path, range(3), grey=True)
    found = find(tmp_path)
    assert not [path for path in found.train + found.val if path.name.startswith("grey")]
    assert found.report == ["near-grey: 3 of 7 photographs (mean chroma below 4.0)"]
    kept = find(tmp_path, min_chroma=0)
    assert len(kept.train) + len(kept.val) == 7
    assert kept.report == []


def test_nothing_but_grey_is_refused_with_a_cure(tmp_path):
    message = refusal(draw_folder(tmp_path, range(3), grey=True))
    assert "all 3 photographs" in message
    assert "give colour photographs, or lower --min-chroma" in message


def spoil(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"broken{number:02}.jpg" for number in range(count)]
    for path in paths:
        path.write_text("no photograph")
    return paths


def test_ten_unreadable_files_are_always_allowed_and_each_is_reported(tmp_path):
    broken = spoil(draw_folder(tmp_path, range(2)), 10)
    found = find(tmp_path, max_unreadable=0)
    assert len(found.train) + len(found.val) == 2
    assert len(found.report) == 10
    for path, line in zip(broken, found.report, strict=True):
        assert line.startswith(f"unreadable: {path}: not a photograph")


def test_more_unreadable_files_are_refused_naming_the_first(tmp_path):
    broken = spoil(draw_folder(tmp_path, range(4)), 11)
    message = refusal(tmp_path)
    assert "11 of the 15 files" in message
    assert f"such as {broken[0]}: not a photograph" in message
    assert "raise --max-unreadable" in message


def test_more_unreadable_files_are_allowed_when_asked_for(tmp_path):
    spoil(draw_folder(tmp_path, range(4)), 11)
    assert len(find(tmp_path, max_unreadable=11 / 15).report) == 11


def test_nothing_but_unreadable_files_is_refused_however_few(tmp_path):
    (broken,) = spoil(tmp_path, 1)
    assert f"such as {broken}: " in refusal(tmp_path, max_unreadable=1)


# The digest


def test_the_digest_stays_when_the_tree_moves(sixty, tmp_path):
    shutil.copytree(sixty, tmp_path / "elsewhere")
    assert find(tmp_path / "elsewhere").digest == find(sixty).digest


def test_the_digest_changes_when_a_photograph_changes_or_joins_or_leaves(tmp_path):
    draw_folder(tmp_path / "train", range(4))
    draw_folder(tmp_path / "val", range(4, 8))
    digests = [find(tmp_path).digest]
    for folder in ("train", "val"):
        draw_photo(50, 20, 16).save(tmp_path / folder / f"photo0{3 if folder == 'train' else 5}.png")
        digests.append(find(tmp_path).digest)
        draw_photo(60 + len(digests), 20, 16).save(tmp_path / folder / "more.png")
        digests.append(find(tmp_path).digest)
    (tmp_path / "train" / "photo00.png").unlink()
    digests.append(find(tmp_path).digest)
    assert len(set(digests)) == 6


def test_the_digest_changes_when_a_photograph_changes_sides(tmp_path):
    draw_folder(tmp_path / "train", range(3))
    draw_folder(tmp_path / "val", range(3, 6))
    before = find(tmp_path)
    (tmp_path / "train" / "photo02.png").rename(tmp_path / "val" / "photo02.png")
    after = find(tmp_path)
    assert (len(before.val), len(after.val)) == (3, 4)
    assert before.digest != after.digest
