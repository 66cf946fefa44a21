"""Too little memory is one line with what would fit."""

import pytest
import torch

from gan_color.config import PretrainConfig
from gan_color.errors import GanColorError
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
    assert what_would_fit(PretrainConfig(batch_size=8, accumulate=2, size=256)) == (
        "give --accumulate 4 (the same step in more parts; also with --resume), or --precision bf16, or --size 128, "
        "or --batch-size 4"
    )
    assert what_would_fit(PretrainConfig(batch_size=1, size=32, precision="bf16")) == "take a machine with more"
    assert "--accumulate" not in what_would_fit(PretrainConfig(batch_size=6, accumulate=6))


def test_what_is_no_want_of_memory_passes():
    with pytest.raises(RuntimeError, match="mat1 and mat2"), one_line_faults(PretrainConfig()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
