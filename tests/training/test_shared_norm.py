"""Batch norm over two processes, against torch's own with the whole batch: values, gradients, second derivatives."""

from __future__ import annotations

import pytest
import torch
from norm_tools import CASES, PROCESSES, found, work


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """What each of two processes finds, by case."""
    out = tmp_path_factory.mktemp("norm")
    torch.multiprocessing.start_processes(work, args=(str(out / "store"), out), nprocs=PROCESSES, start_method="spawn")
    return [torch.load(out / f"{rank}.pt") for rank in range(PROCESSES)]


def apart(ours, theirs):
    """The length of the difference, as a share of the length."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("name", CASES)
def test_it_is_torchs_own_over_the_whole_batch(name, shares):
    case, own = CASES[name], [share[name] for share in shares]
    whole = found(case, slice(None), share=False)
    assert all(share.keys() == whole.keys() for share in own)
    for key, value in whole.items():
        if key.startswith("buffer"):
            ours = own[0][key]  # of both, see below
        elif key == "y" or key.split()[0] in ("dx", "ddx"):
            ours = torch.cat([share[key] for share in own])
        else:  # each process has its own part of the weights' gradients
            ours = sum(share[key] for share in own)
        assert ours.dtype == value.dtype
        assert apart(ours, value) < case.tolerance, key


@pytest.mark.parametrize("name", CASES)
def test_both_processes_keep_the_same_statistics(name, shares):
    first, second = (share[name] for share in shares)
    buffers = [key for key in first if key.startswith("buffer")]
    assert len(buffers) == 3
    assert all(torch.equal(first[key], second[key]) for key in buffers)
