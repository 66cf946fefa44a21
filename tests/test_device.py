"""Devices and arithmetic chosen from the options, with and without GPUs."""

import os

import pytest
import torch

from gan_color.device import choose_device, choose_precision, cores
from gan_color.errors import UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def two_gpus(monkeypatch):
    """torch says that it sees two GPUs; nothing is run on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_is_the_cpu():
    assert choose_device("cpu") == CPU
    assert choose_device("cpu", local_rank=3) == CPU


def test_auto_without_accelerator_is_the_cpu(no_accelerator):
    assert choose_device("auto") == CPU


def test_auto_prefers_cuda_and_leaves_mps_to_those_who_ask(monkeypatch, two_gpus):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert choose_device("mps") == torch.device("mps")


def test_each_process_takes_the_gpu_of_its_number(two_gpus):
    for name in ("auto", "cuda"):
        assert [choose_device(name, rank) for rank in (0, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_a_numbered_gpu_is_taken_whatever_the_process(two_gpus):
    assert choose_device("cuda:0", local_rank=1) == torch.device("cuda", 0)
    assert choose_device("cuda:1", local_rank=0) == torch.device("cuda", 1)


# torch holds an index in 8 signed bits: 200 wraps to a negative one.
@pytest.mark.parametrize("name", ["cuda:2", "cuda:9", "cuda:200"])
def test_a_gpu_beyond_the_last_is_refused(two_gpus, name):
    with pytest.raises(UsageError, match=f"--device {name}: "):
        choose_device(name)


def test_a_process_beyond_the_last_gpu_is_refused(two_gpus):
    with pytest.raises(UsageError, match="torch sees 2 CUDA GPUs"):
        choose_device("cuda", local_rank=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_without_a_gpu_is_refused_with_the_cure(name):
    with pytest.raises(UsageError, match=f"^--device {name}: torch sees 0 CUDA GPUs, .*; take --device cpu"):
        choose_device(name)


def test_mps_elsewhere_is_refused_with_the_cure(no_accelerator):
    with pytest.raises(UsageError, match=r"^--device mps: there is none here; take --device cpu$"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:x", "cuda:-1", "0", "cpu cuda", "meta", "xpu"])
def test_other_names_are_refused_with_those_there_are(name):
    with pytest.raises(UsageError, match=f"^--device {name}: take auto, cpu, cuda, cuda:N or mps$"):
        choose_device(name)


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize(
    ("name", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_named_precision_is_taken(name, expected, device):
    assert choose_precision(name, device) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, torch.float32),
        ({"architecture": "aarch64"}, torch.float32),
    ],
)
def test_auto_on_a_cpu_is_bfloat16_where_it_multiplies_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", CPU) == expected


def test_auto_on_a_cpu_that_cannot_be_asked_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_on_a_gpu_is_bfloat16_where_it_is_native(monkeypatch, native, expected):
    # Emulated bfloat16 is slower than float32: with emulation every GPU would say yes.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert choose_precision("auto", CUDA) == expected


def test_auto_on_mps_is_float32():
    assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_cores_are_those_of_the_machine_where_the_system_does_not_say(monkeypatch):
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert cores() == os.cpu_count()
