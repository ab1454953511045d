"""The device to compute on: one choice for scoring, generation and training."""

from evalkit.errors import UserError, first_line

AUTO = "auto"


def choose_device(name: str | None = None) -> str:
    """Return the name of the device to compute on.

    Args:
        name: a PyTorch device such as cpu, cuda, cuda:1 or mps. None and "auto" choose CUDA if it is available, else MPS,
            else the CPU.

    Raises:
        UserError: PyTorch has no such device on this machine.
    """
    import torch

    if name is None or name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(
            f"device {name!r}: is unavailable on this machine ({first_line(error)}); give auto, cpu, cuda, cuda:1 or mps"
        ) from error
    return name
