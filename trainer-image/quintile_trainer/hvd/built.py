"""What Horovod was built with, as far as the shim can answer."""

from __future__ import annotations

import torch
from torch import distributed


def mpi_built() -> bool:
    """Return False: the shim speaks Gloo, and NCCL for CUDA tensors."""
    return False


def mpi_enabled() -> bool:
    """Return False."""
    return False


def mpi_threads_supported() -> bool:
    """Refuse the question, as Horovod does without MPI."""
    raise ValueError("Horovod MPI is not enabled; Please make sure it's installed and enabled.")


def gloo_built() -> bool:
    """Return whether torch has Gloo."""
    return bool(distributed.is_gloo_available())


def gloo_enabled() -> bool:
    """Return whether torch has Gloo, which the shim then uses."""
    return gloo_built()


def nccl_built() -> int:
    """Return NCCL's version as a number, 0 without it."""
    if not (torch.cuda.is_available() and distributed.is_nccl_available()):
        return 0
    major, minor, patch = torch.cuda.nccl.version()[:3]  # type: ignore[no-untyped-call]
    return int(major) * 10000 + int(minor) * 100 + int(patch)


def cuda_built() -> bool:
    """Return whether torch has CUDA."""
    return torch.version.cuda is not None


def rocm_built() -> bool:
    """Return whether torch has ROCm."""
    return torch.version.hip is not None


def ccl_built() -> bool:
    """Return False: oneCCL is not used."""
    return False


def ddl_built() -> bool:
    """Return False: IBM DDL is not used."""
    return False
