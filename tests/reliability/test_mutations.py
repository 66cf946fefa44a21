"""Row T: each guard, when it is taken out, turns a test red."""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from conftest import PROJECT, SHARED


class Guard(NamedTuple):
    """A line or two of the package, what they become, and the test that must fail then."""

    name: str
    file: str
    was: str
    becomes: str
    test: str


CHECKPOINT, WRITING = "gan_color/checkpoint.py", "gan_color/writing.py"
FIT, LOADING = "gan_color/fit.py", "gan_color/data/loading.py"
POINTS = "tests/reliability/test_crash_points.py"
BAD = "tests/reliability/test_bad_checkpoints.py"

GUARDS = [
    Guard(
        "content is flushed before the rename",
        WRITING,
        "            os.fsync(file.fileno())\n",
        "",
        f"{POINTS}::test_the_order_of_writing",
    ),
    Guard(
        "the folder is flushed after the rename",
        WRITING,
        "        _flush_folder(path.parent)\n",
        "",
        f"{POINTS}::test_the_order_of_writing",
    ),
    Guard(
        "the old file is replaced and never deleted first",
        WRITING,
        "        Path(temporary).replace(path)\n",
        "        path.unlink(missing_ok=True)\n        Path(temporary).replace(path)\n",
        f"{POINTS}::test_every_point_of_saving",
    ),
    Guard(
        "files can be read by others",
        WRITING,
        "            os.fchmod(file.fileno(), 0o666 & ~_UMASK)",
        "            pass",
        "tests/test_checkpoint.py::test_files_are_readable_by_others",
    ),
    Guard(
        "what is half written is cleared away",
        FIT,
        "        remove_leftovers(folder)\n",
        "        pass\n",
        f"{POINTS}::test_what_a_kill_left_half_written_is_cleared",
    ),
    Guard(
        "a lock is of the file that is there",
        "gan_color/run_lock.py",
        "            if os.path.samestat(os.fstat(file.fileno()), path.stat()):",
        "            if True:",
        "tests/test_run_lock.py::test_a_lock_that_was_opened_before_its_holder_removed_it_is_taken_anew",
    ),
    Guard(
        "SHA-256 of a state",
        CHECKPOINT,
        "            whole = hashlib.sha256(data).hexdigest() in",
        "            whole = True or hashlib.sha256(data).hexdigest() in",
        f"{BAD}::test_a_flipped_bit_in_a_state_is_refused",
    ),
    Guard(
        "the digest is written before its state",
        CHECKPOINT,
        '    write_atomically(digest_path(path), "\\n".join(digests).encode())\n    write_atomically(path, data)\n',
        '    write_atomically(path, data)\n    write_atomically(digest_path(path), "\\n".join(digests).encode())\n',
        "tests/test_checkpoint.py::test_a_state_saved_anew_is_whole_at_every_moment",
    ),
    Guard(
        "weights_only",
        CHECKPOINT,
        "weights_only=True",
        "weights_only=False",
        f"{BAD}::test_a_malicious_state_runs_nothing",
    ),
    Guard(
        "declared size of a state",
        CHECKPOINT,
        "            _require_honest_size(data)\n",
        "",
        f"{BAD}::test_a_zip_bomb_is_refused_by_its_declared_size",
    ),
    Guard(
        "nothing half is appended",
        WRITING,
        "                os.ftruncate(descriptor, size)",
        "                pass",
        "tests/test_board.py::test_a_full_disk_leaves_a_gap_and_nothing_broken",
    ),
    Guard(
        "generators are finite when they are saved and loaded",
        "gan_color/generators/hub.py",
        "        if tensor.is_floating_point() and not tensor.isfinite().all():",
        "        if False:",
        "tests/test_checkpoint.py::test_weights_that_are_not_finite_are_never_saved",
    ),
    Guard(
        "updates are finite",
        "gan_color/guard.py",
        "            optimizer.found_inf = self.tripped",
        "            optimizer.found_inf = torch.zeros_like(self.tripped)",
        "tests/reliability/test_non_finite.py::test_no_weight_moves_in_a_poisoned_step",
    ),
    Guard(
        "a step that is not finite stops the run",
        FIT,
        '            if reading or drawing or due or device.type == "cpu":\n                require_finite(step)\n',
        "",
        "tests/reliability/test_non_finite.py",
    ),
    Guard(
        "a full disk does not stop the training",
        FIT,
        'board.going_on("checkpoints")',
        "contextlib.nullcontext()",
        "tests/reliability/test_full_disk.py::test_space_that_returns",
    ),
    Guard(
        "a signal is collected while a step is taken",
        FIT,
        "with caught_signals() as caught,",
        "with contextlib.nullcontext([]) as caught,",
        "tests/reliability/test_signal_cells.py::test_signals",
    ),
    Guard(
        "a validation that a stop came before is made good",
        FIT,
        "    if due:\n        measure(first_step)\n        due = False\n        save(first_step, due)\n",
        "",
        "tests/test_fit.py::test_a_stopped_run_equals_an_uninterrupted_one",
    ),
    Guard(
        "TensorBoard takes back what came after the state",
        "gan_color/board.py",
        "            append_whole(self.events, _record(purge))\n",
        "",
        "tests/test_board.py::test_a_resumed_board_has_each_step_once",
    ),
    Guard(
        "so does metrics.jsonl",
        "gan_color/board.py",
        "if _step_of(line) <= resumed_at",
        "if True",
        "tests/test_board.py::test_a_resumed_board_has_each_step_once",
    ),
    Guard(
        "a run goes on with the photographs it began with",
        "gan_color/prepare.py",
        '    if state and state["data"] != found.digest:',
        "    if False:",
        "tests/test_fit.py::test_other_photographs_on_resuming_are_refused",
    ),
    Guard(
        "a run goes on with as many processes",
        "gan_color/prepare.py",
        '    if state["world"] != distributed.world():',
        "    if False:",
        "tests/test_distributed.py::test_a_run_of_two_processes_is_not_continued_by_one",
    ),
    Guard(
        "processes are told the same",
        "gan_color/distributed.py",
        "            if value != told[0][name]:",
        "            if False:",
        "tests/reliability/test_ranks.py::test_processes_that_were_told_different_things_are_refused",
    ),
    Guard(
        "all processes stop when one must",
        "gan_color/distributed.py",
        "    dist.all_reduce(largest, dist.ReduceOp.MAX)\n    return int(largest)\n",
        "    return int(largest)\n",
        "tests/reliability/test_ranks.py::test_a_signal_to_one_stops_both_at_one_step",
    ),
    Guard(
        "workers leave signals to the run",
        LOADING,
        "        signal.signal(signum, signal.SIG_IGN)\n",
        "        pass\n",
        "tests/data/test_lab.py::test_workers_outlive_the_signals_that_every_process_of_a_run_may_get",
    ),
    Guard(
        "the order does not depend on where a run was cut off",
        "gan_color/data/order.py",
        "        for step in range(self.first_step, self.last_step):",
        "        for step in range(0, self.last_step - self.first_step):",
        "tests/reliability/test_kills.py::test_resumed_at_every_step",
    ),
    Guard(
        "augmentation is a function of (seed, epoch, index)",
        "gan_color/data/lab.py",
        "np.random.default_rng((self.seed, _AUGMENTATION, epoch, index))",
        "np.random.default_rng()",
        "tests/reliability/test_identity.py::test_batches_are_the_same_with_any_number_of_workers",
    ),
    Guard(
        "formats that may be decoded",
        "gan_color/data/photos.py",
        "Image.open(io.BytesIO(data), formats=FORMATS)",
        "Image.open(io.BytesIO(data))",
        "tests/reliability/test_strangers_photos.py::test_files_by_hand",
    ),
    Guard(
        "pixels that may be decoded",
        "gan_color/data/photos.py",
        "            if width * height > MAX_PIXELS:",
        "            if False:",
        "tests/data/test_photos.py::test_too_many_pixels_are_refused_before_they_are_decoded",
    ),
    Guard(
        "whatever a decoder raises names the file",
        "gan_color/data/photos.py",
        "    except Exception as error:  # Pillow's",
        "    except OSError as error:  # Pillow's",
        "tests/reliability/test_strangers_photos.py::test_mutated_files",
    ),
    Guard(
        "what is held out is not trained on",
        "gan_color/data/split.py",
        " and look.digest not in held_out]",
        "]",
        "tests/reliability/test_identity.py::test_what_is_held_out_is_never_trained_on",
    ),
]


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_the_guard_is_where_it_is_taken_out(guard):
    """One place each, so that what is taken out below is the guard itself."""
    assert (PROJECT / guard.file).read_text().count(guard.was) == 1


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_without_the_guard_a_test_fails(guard, tmp_path, full, figure, record_property):
    """In a copy of the project."""
    if not full and guard not in GUARDS[:2]:
        pytest.skip("at full size only")
    copy = tmp_path / "gan_color"
    left_out = shutil.ignore_patterns(".git", ".venv", "checkpoints", "docs", "notebooks", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, copy, ignore=left_out)
    path = copy / guard.file
    path.write_text(path.read_text().replace(guard.was, guard.becomes))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GAN_COLOR_SHARED": str(SHARED)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", guard.test],
        cwd=copy, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert tested.returncode == 1, f"{guard.test} stays green: {tested.stdout[-2000:]}"
    assert "error" not in tested.stdout.splitlines()[-1], tested.stdout[-2000:]  # it ran, and found it
    figure("T", f"without “{guard.name}”: {guard.test.split('::')[-1]} fails")
