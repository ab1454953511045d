"""A fixed PyTorch state for every forward pass: full float32 on the chosen device, whatever the caller has set."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

AUTOCAST_DEVICES = ("cpu", "cuda", "mps")
# Each decides whether float32 is computed in TF32 or bfloat16; cuDNN's two start as "tf32".
PRECISION_NODES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
EXACT = "ieee"

_lock = threading.Lock()
_entries = 0
_restore: list[Callable[[], object]] = []


@contextmanager
def exact() -> Iterator[None]:
    """Compute without gradients in the fixed state."""
    import torch

    with fixed_state(), torch.inference_mode():
        yield


@contextmanager
def fixed_state() -> Iterator[None]:
    """Compute in IEEE float32 with deterministic convolutions; the caller's state returns afterwards.

    Autocast and the default device belong to a thread, so enter this in the thread that computes. Matmul precision, cuDNN's
    flags and the default dtype belong to the process: the last thread to leave restores them.
    """
    import torch

    _enter_process_state()
    try:
        with ExitStack() as stack:
            for device in AUTOCAST_DEVICES:
                stack.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type != "cpu":
                # not torch.device("cpu"): any mode keeps attention from its fast path, which rounds differently
                stack.enter_context(torch._C.DisableTorchFunction())
            yield
    finally:
        _leave_process_state()


def _enter_process_state() -> None:
    global _entries
    with _lock:
        if _entries == 0:
            _restore.extend(_set_process_state())
        _entries += 1


def _leave_process_state() -> None:
    global _entries
    with _lock:
        _entries -= 1
        if _entries == 0:
            while _restore:
                _restore.pop()()


def _set_process_state() -> Iterator[Callable[[], object]]:
    """Set what belongs to the process; yield for each setting a function that restores it."""
    import torch

    def change(owner: Any, name: str, value: object) -> Callable[[], object]:  # noqa: ANN401 -- a module or a backend object
        before = getattr(owner, name)
        setattr(owner, name, value)
        return lambda: setattr(owner, name, before)

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield lambda: torch.set_default_dtype(dtype)
    cudnn = torch.backends.cudnn
    for name, value in (("enabled", True), ("benchmark", False), ("deterministic", True)):
        yield change(cudnn, name, value)
    if hasattr(cudnn, "conv"):
        nodes = [attrgetter(name)(torch.backends) for name in PRECISION_NODES]
        before = [node.fp32_precision for node in nodes]
        # setting the older flag changes two of the nodes, so these are set after it and restored after it
        for node, value in zip(nodes, before, strict=True):
            yield partial(setattr, node, "fp32_precision", value)
        try:
            # libraries read the older flag, which raises while it contradicts the nodes
            yield change(cudnn, "allow_tf32", False)
        except RuntimeError:
            # it did so before, in the caller's state
            pass
        for node in nodes:
            node.fp32_precision = EXACT
        return
    # PyTorch 2.8 has the older interface only
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield lambda: torch.set_float32_matmul_precision(precision)
    yield change(cudnn, "allow_tf32", False)
