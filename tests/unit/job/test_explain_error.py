"""Errors that no test here can bring about are told from what torch says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.job.explain_error import explain


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return check(Composer().compose(["batch_size=24"]))


def noted(error: Exception) -> Exception:
    """As the learner leaves it."""
    error.add_note("at step 7: inputs [24, 64], targets [24]")
    return error


@pytest.mark.parametrize(
    "text",
    [
        "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that … out of shared memory.",
    ],
)
def test_a_small_shared_memory_is_not_the_fault_of_the_data(config, text):
    config = replace(config, data=replace(config.data, num_workers=2))
    told = explain(RuntimeError(text), config)
    assert "DataLoader workers" in told
    assert "data.num_workers=0" in told
    assert "--shm-size" in told


def test_a_device_side_assert_is_told(config):
    error = noted(
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be …\nFor debugging")
    )
    assert explain(error, config).splitlines() == [
        "RuntimeError: CUDA error: device-side assert triggered",
        "  at step 7: inputs [24, 64], targets [24]",
        "  the GPU does not report the wrong value; usually it is a label outside 0 to data.num_outputs - 1 "
        "(data.num_outputs=10), or an index outside an embedding",
        "  the same command with device=cpu names it",
    ]


@pytest.mark.parametrize(
    ("error", "asking"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.72 GiB of which …"
            ),
            ", asking for 2.50 GiB",
        ),
        (MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000, 1000000) and data type float64"),
         ", asking for 7.45 GiB"),
        (MemoryError(), ""),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR, not enough memory"), ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("accumulate", "remedy"),
    [
        (1, "trainer.accumulate=2 keeps the same effective batch in about 50% of the memory"),
        (16, "trainer.accumulate=24 keeps the same effective batch in about 67% of the memory"),
        (24, "a step already takes one example at a time: a smaller model or smaller inputs need less"),
    ],
)
def test_a_full_memory_is_told(config, error, asking, accumulate, remedy):
    error = noted(type(error)(*error.args))
    config = replace(config, trainer=replace(config.trainer, accumulate=accumulate))
    assert explain(error, config).splitlines() == [
        f"out of memory with batch_size=24 trainer.accumulate={accumulate}{asking}",
        "  at step 7: inputs [24, 64], targets [24]",
        f"  {remedy}",
    ]


def test_an_operation_without_a_deterministic_kernel_is_told(config):
    text = "cumsum_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_deterministic_…'"
    lines = explain(noted(RuntimeError(text)), config).splitlines()
    assert lines[0] == text
    assert lines[-1].startswith("  set trainer.deterministic=false to allow it")


@pytest.mark.parametrize(
    "text",
    [
        "could not create a primitive descriptor for the LSTM forward propagation primitive. Run workload with …",
        "\"addmm_impl_cpu_\" not implemented for 'Half'",
    ],
)
def test_a_precision_that_the_device_lacks_is_named(config, text):
    config = replace(config, trainer=replace(config.trainer, precision="bf16"))
    first, *others = explain(noted(RuntimeError(text)), config).splitlines()
    assert first == f"trainer.precision=bf16: the device cannot compute a layer in it: {text}"
    assert others[-1] == "  set trainer.precision=fp32"
