"""Too little memory is one line with what would fit."""

import pytest
import torch

from gan_color.config import PretrainConfig
from gan_color.errors import GanColorError, UsageError
from gan_color.faults import one_line_faults, what_would_fit


def too_much_of_the_cpu():
    torch.empty(2**60)


def too_much_of_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def too_much_of_python():
    bytearray(2**60)


@pytest.mark.parametrize("ask", [too_much_of_the_cpu, too_much_of_a_gpu, too_much_of_python])
def test_too_little_memory_says_what_would_fit(ask):
    memory = pytest.raises(GanColorError, match="memory is too small: give --accumulate 2")
    with memory as caught, one_line_faults(PretrainConfig()):
        ask()
    assert "\n" not in str(caught.value)


def test_what_would_fit_is_what_the_options_allow():
    assert what_would_fit(PretrainConfig(batch_size=8, accumulate=2, size=256, precision="fp32")) == (
        "give --accumulate 4 (the same step in more parts; also with --resume), or --precision bf16, or --size 128, "
        "or --batch-size 4"
    )
    assert what_would_fit(PretrainConfig(batch_size=1, size=32, precision="bf16")) == "take a machine with more"
    assert "--accumulate" not in what_would_fit(PretrainConfig(batch_size=6, accumulate=6))
    # One photograph at a time, of which the deepest layers would see a single value, is refused.
    assert what_would_fit(PretrainConfig(batch_size=2, size=32, precision="bf16")) == "take a machine with more"
    # What may not change is no cure.
    going_on = PretrainConfig(batch_size=8, size=256, precision="fp32", resume=True)
    assert what_would_fit(going_on) == "give --accumulate 2 (the same step in more parts; also with --resume)"


def test_batch_norm_with_a_single_value_is_one_line():
    with (
        pytest.raises(UsageError, match="--batch-size 1 leaves batch norm"),
        one_line_faults(PretrainConfig(batch_size=1)),
    ):
        torch.nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1))
    with pytest.raises(ValueError, match="another"), one_line_faults(PretrainConfig()):
        raise ValueError("another")


def test_what_is_no_want_of_memory_passes():
    with pytest.raises(RuntimeError, match="mat1 and mat2"), one_line_faults(PretrainConfig()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
