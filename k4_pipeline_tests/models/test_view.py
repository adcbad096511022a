"""A network that sees fewer bars, or bars out of order."""

from __future__ import annotations

import pytest
import torch

from k4_pipeline.config import ModelConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.models import build_model
from k4_pipeline.models.view import seen


def rows(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 50, 69, generator=generator)
    mask = torch.arange(50) >= torch.tensor([0, 5, 30, 48, 49])[:, None]
    return x.masked_fill(~mask.unsqueeze(-1), float("nan")), mask


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
def test_a_network_of_ten_bars_reads_the_last_ten_alone(architecture):
    torch.manual_seed(0)
    whole = build_model(ModelConfig(architecture=architecture, preset="micro")).eval()
    short = build_model(ModelConfig(architecture=architecture, preset="micro", bars=10)).eval()
    short.load_state_dict(whole.state_dict())
    x, mask = rows()
    torch.testing.assert_close(short(x, mask), whole(x[:, -10:].contiguous(), mask[:, -10:].contiguous()))
    assert not torch.allclose(short(x, mask)[0], whole(x, mask)[0])


def test_shuffling_moves_the_valid_bars_but_the_last_one():
    x, mask = rows()
    mixed, same = seen(x, mask, 50, True)
    assert torch.equal(same, mask)
    for i in range(len(x)):
        valid = x[i][mask[i]]
        moved = mixed[i][mask[i]]
        assert torch.equal(moved[-1], valid[-1])
        order = moved[:, 0].argsort()
        assert torch.equal(moved[order], valid[valid[:, 0].argsort()])
        assert torch.isnan(mixed[i][~mask[i]]).all()
    assert not torch.equal(mixed[0], x[0])
    assert torch.equal(torch.nan_to_num(seen(x, mask, 50, True)[0]), torch.nan_to_num(mixed))


def test_a_sequence_has_one_to_fifty_bars():
    with pytest.raises(ConfigError, match="1 to 50"):
        build_model(ModelConfig(preset="micro", bars=0))
