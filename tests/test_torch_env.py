"""What is changed in the process is put back, also on error."""

from __future__ import annotations

import gc
import os
import warnings

import pytest
import torch

from mace_ft_bench.torch_env import default_dtype, mace_environment

SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def test_default_dtype_is_restored_on_error():
    with pytest.raises(RuntimeError, match="boom"), default_dtype(torch.float64):
        assert torch.get_default_dtype() == torch.float64
        raise RuntimeError("boom")
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("before", [None, "1"])
def test_environment_is_restored_on_error(monkeypatch, before):
    monkeypatch.delenv(SWITCH, raising=False)
    if before:
        monkeypatch.setenv(SWITCH, before)
    filters = list(warnings.filters)
    with pytest.raises(RuntimeError, match="boom"), mace_environment():
        os.environ[SWITCH] = "1"
        assert not gc.isenabled()
        raise RuntimeError("boom")
    assert os.environ.get(SWITCH) == before
    assert gc.isenabled()
    assert list(warnings.filters) == filters


def test_other_warnings_pass():
    with pytest.warns(UserWarning, match="mind this"), mace_environment():
        warnings.warn("mind this", stacklevel=1)
