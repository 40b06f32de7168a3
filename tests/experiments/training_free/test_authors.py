"""The comparison with the authors' code, with stand-ins for their clones, and its table on values made up."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from experiments.training_free.authors import CORRECTED, load, main, summary
from freerea_patch import InputError

#: The parts of each clone that are called, with the imports and the calls of ``cuda`` of the originals.
FILES = {
    "az-nas": {
        "NB201/ZeroShotProxy/compute_az_nas_score.py": """
            import torch
            def compute_nas_score(model, gpu, trainloader, resolution, batch_size):
                model.cuda()
                features = model.extract_cell_features(torch.randn(batch_size, 3, resolution, resolution).cuda())
                return {"expressivity": len(features), "progressivity": features[-1].shape[1], "trainability": -1.0}
            """
    },
    "vkdnw": {
        "NB201/ZeroShotProxy/compute_vkdnw_score.py": """
            import torch
            from functorch import make_functional_with_buffers
            def cholesky_covariance(output):
                return torch.tensor([[1.0, 2.0], [3.0, 4.0]])
            def compute_nas_score(model, gpu, trainloader, resolution, batch_size, p=0.0):
                parameter = next(model.parameters())
                parameter.data.flatten(start_dim=0)[0] = 7
                assert p == 1 and float(parameter.detach().flatten()[0]) != 7
                logits = model(torch.zeros(batch_size, 3, resolution, resolution))[1]
                return {"vkdnw_entropy": float(cholesky_covariance(logits)[0, 1]), "vkdnw_dim": 5.0}
            """
    },
    "swap": {
        "src/__init__.py": "",
        "src/utils.py": "def count(inputs): return len(inputs)",
        "src/metrics/swap.py": """
            from src.utils import count
            class SWAP:
                def __init__(self, model, inputs, device):
                    self.value = count(inputs)
                def forward(self):
                    return self.value
            """,
    },
    "zico": {
        "ZeroShotProxy/compute_zico.py": """
            import global_utils, ModelLoader
            def getzico(network, trainloader, lossfunc):
                return sum(float(lossfunc(network(x.cuda()), y).detach()) > 0 for x, y in trainloader)
            """
    },
    "meco": {
        "correlation/foresight/pruners/measures/__init__.py": "from . import meco",
        "correlation/foresight/pruners/measures/meco.py": """
            import torch
            def compute_meco(net, inputs, targets):
                return torch.randn(size=(1, 3, 64, 64)).shape[-1]
            """,
    },
}


@pytest.fixture
def clones(tmp_path: Path) -> list[str]:
    options = []
    for name, files in FILES.items():
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = text.strip("\n").splitlines()
            path.write_text("\n".join(line.removeprefix(" " * 12) for line in lines))
        options += [f"--{name}", str(tmp_path / name)]
    return options


def test_every_code_is_called_as_it_wants_to_be(clones: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*clones, "--networks", "1", "--batch-size", "2"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.strip().splitlines()[2:]]
    assert [line[0].removeprefix("| ") for line in lines] == [
        *("expressivity", "progressivity", "trainability", "vkdnw", CORRECTED, "vkdnw_dim", "swap", "zico", "meco")
    ]
    assert {line[1] for line in lines} == {"1"}
    assert not {"src", "global_utils", "ModelLoader", "published_metric"} & set(sys.modules)


def test_each_code_sees_the_networks_and_the_noise(clones: list[str]) -> None:
    import torch

    from experiments.training_free.authors import CODES
    from freerea_patch import TopologySpace

    network = TopologySpace().build("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    images, labels = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)
    paths = dict(zip(clones[::2], map(Path, clones[1::2]), strict=True))
    values: dict[str, float] = {}
    for name, code in CODES.items():
        values |= code(paths[f"--{name.replace('_', '-')}"])(network, images, labels, 0)
    assert values == {
        **{"expressivity": 18, "progressivity": 64, "trainability": -1},
        **{"vkdnw": 2, CORRECTED: 3, "vkdnw_dim": 5, "swap": 4, "zico": 2, "meco": 32},
    }


def test_the_table_has_differences_ranks_and_seconds() -> None:
    rows = [(1.0, 1.0, 0.5, 1.0), (2.0, 2.5, 0.5, 1.0), (-math.inf, -math.inf, 0.5, 1.0)]
    line = summary({"zico": rows}).splitlines()[2]
    assert line == "| zico | 3 | 1 / 1 | 2.0e-01 | 1.0e-01 | 1.0000 | 0.500 | 1.000 | 2.0 |"


def test_a_folder_without_the_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a clone of the authors' code: it has no src/metrics/swap\.py"):
        load(tmp_path, "src/metrics/swap.py")
    with pytest.raises(InputError, match="expected a clone of at least one of the codes: --az-nas, --vkdnw, --swap"):
        main([])
