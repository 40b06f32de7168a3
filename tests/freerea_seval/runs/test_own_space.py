"""A search space of the user's, in a file beside the config, goes all the way: live metrics, a predictor, a report."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest

from tests.freerea_seval.cli.test_mistakes import call

SPACE = '''
from torch import nn
from freerea_patch import InputError

class Towers:
    """Plain towers: depth 1 to 4, width 2 to 16."""

    input_shape = (1, 8, 8)

    def __init__(self, classes=3):
        self.name = f"towers/{classes}"
        self.classes = classes

    def check(self, genotype):
        depth, _, width = genotype.partition("x")
        if not (depth.isdigit() and width.isdigit() and 1 <= int(depth) <= 4 and 2 <= int(width) <= 16):
            raise InputError(f"{genotype!r} is no tower; expected DEPTHxWIDTH such as 3x8")

    def sample(self, rng):
        return f"{rng.randint(1, 4)}x{rng.randint(2, 16)}"

    def mutate(self, genotype, rng):
        depth, _, width = genotype.partition("x")
        if rng.random() < 0.5:
            return f"{rng.choice([d for d in range(1, 5) if d != int(depth)])}x{width}"
        return f"{depth}x{rng.choice([w for w in range(2, 17) if w != int(width)])}"

    def crossover(self, first, second, rng):
        parents = first.split("x"), second.split("x")
        return "x".join(rng.choice(pair) for pair in zip(*parents))

    def build(self, genotype):
        depth, width = map(int, genotype.split("x"))
        layers, channels = [], 1
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.classes))
'''
CONFIG = """
space: {name: "towers_space:Towers", classes: 5}
search: {population: 6, tournament: 3}
budget: {evaluations: 15}
live: {cache: off, batch_size: 8, initialisations: 1}
objectives:
  - {metric: naswot, source: training-free}
  - {metric: logsynflow, source: training-free}
  - {metric: params, source: cost, role: constraint, max: 0.004}
  - {metric: latency, source: {seval: {measure: latency, networks: 12}}, role: pareto}
report:
  - {metric: macs, source: cost}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "towers_space.py").write_text(SPACE)
    (tmp_path / "towers.yaml").write_text(CONFIG)
    return tmp_path / "towers.yaml"


def test_a_space_of_the_users_is_searched_and_resumed(config: Path) -> None:
    run = config.parent / "run"
    assert call("search", config, "-o", run) == 0
    front = json.loads((run / "seed-0" / "result.json").read_text())["front"]
    assert front
    for row in front:
        depth, width = map(int, row["genotype"].split("x"))
        assert row["params"] <= 0.004
        expected = width * 9 + width + (depth - 1) * (width * width * 9 + width) + 2 * width * depth + width * 5 + 5
        assert row["params"] * 1e6 == pytest.approx(expected)
    assert call("export", run, "-o", config.parent / "tower.py") == 0
    assert "class Network(nn.Sequential):" in (config.parent / "tower.py").read_text()
    before = (run / "front.csv").read_bytes()
    (run / "seed-0" / "result.json").unlink()
    assert call("search", "--resume", run) == 0
    assert (run / "front.csv").read_bytes() == before


def test_the_metric_skip_is_refused_for_a_space_that_does_not_define_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.replace("metric: logsynflow", "metric: skip"))
    assert call("search", config, "-o", config.parent / "run") == 2
    error = capsys.readouterr().err
    assert "'towers/5' does not define the metric skip; use other metrics: naswot and logsynflow of source" in error
    assert "naswot and logsynflow of source 'training-free', those of source 'zero-cost'" in error
    assert not (config.parent / "run").exists()  # nothing was measured before


def test_a_predictor_is_trained_for_it_and_remembers_its_space(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    cells = [(depth, width) for depth in (1, 2, 3, 4) for width in (2, 4, 8, 16)]
    rows = [f"{depth}x{width},{depth * width}" for depth, width in cells]
    Path("t.csv").write_text("\n".join(["genotype,energy_mj", *rows]) + "\n")
    assert call("train", "t.csv", "--metric", "energy_mj", "--space", "towers_space:Towers", "-o", "p") == 0
    assert call("predict", "p", "4x16", "1x2", "--space", "towers_space:Towers") == 0
    big, small = (float(line.split(",")[1]) for line in capsys.readouterr().out.splitlines()[-2:])
    assert big > small


def broken(config: Path, method: str, objective: str = "{metric: macs, source: cost}") -> Path:
    """Write a space with a method of its own, and a search in it."""
    module = f"broken_{config.parent.name}".replace("-", "_")
    sys.modules.pop(module, None)
    (config.parent / f"{module}.py").write_text(f"{SPACE}\nclass Broken(Towers):\n    {method}\n")
    text = CONFIG[: CONFIG.index("objectives:")] + f"objectives:\n  - {objective}\n"
    config.write_text(text.replace("towers_space:Towers", f"{module}:Broken"))
    return config


LATENCY = "{metric: latency, source: {seval: {measure: latency, networks: 10}}, role: pareto}"
COST = "{metric: macs, source: cost}"
BUILD = "def build(self, genotype):\n        return {}[genotype]"
FORWARD = """def build(self, genotype):
        class Failing(nn.Module):
            def forward(self, x):
                return x.nothing
        return Failing()"""
MISTAKES = {
    "check": ("def check(self, genotype):\n        raise ValueError('no tower')", COST, "ValueError: no tower"),
    "build": (BUILD, COST, "KeyError: '"),
    "build for the latency": (BUILD, LATENCY, "failed with KeyError: '"),
    "forward": (FORWARD, COST, "'Tensor' object has no attribute 'nothing'"),
    "forward for the latency": (FORWARD, LATENCY, "failed with AttributeError: 'Tensor' object has no attribute"),
    "sample": ("def sample(self, rng):\n        return rng.nothing()", COST, "AttributeError: 'Random' object has no"),
    "making the space": ("def __init__(self, classes):\n        raise KeyError(0)", COST, "KeyError: 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_an_exception_of_the_users_code_names_file_line_and_genotype(
    config: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    method, objective, message = MISTAKES[kind]
    config = broken(config, method, objective)
    arguments = ("--set", "search.start=[3x4]") if kind == "check" else ()
    assert call("search", config, "-o", config.parent / "run", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    source = next(config.parent.glob("broken_*.py"))
    last = len(source.read_text().splitlines()) - ("forward" in kind)
    assert f"; raised in {source}, line {last}, by " in line
    if kind not in ("sample", "making the space"):
        assert re.search(r"\b\dx\d", line), line


@pytest.mark.parametrize("body", ["return None", "raise SystemExit(0)", "raise OSError('no') from KeyError('k')"])
@pytest.mark.parametrize(
    "member", ["sample(self, rng)", "mutate(self, genotype, rng)", "parts(self, genotype)", "name"]
)
def test_a_member_that_fails_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], member: str, body: str
) -> None:
    signature = "__init__(self, classes)" if member == "name" else member
    body = body.replace("return", "self.name =") if member == "name" else body
    config = broken(config, f"def {signature}:\n        {body}")
    assert call("search", config, "-o", config.parent / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"freerea-seval: error: (space '.*|OSError: no; raised in .*)", line), line
    assert member.partition("(")[0] in line or "__init__" in line or "ended the program" in line


def test_processes_say_it_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = broken(config, "def mutate(self, genotype, rng):\n        raise IndexError(genotype)")
    options = ("--seeds", "0,1", "--workers", "2")
    assert call("search", config, "-o", config.parent / "run", *options) == 2
    assert re.search(r"error: IndexError: (\S+); raised in .*, line \d+, by mutate\('\1'\)$", capsys.readouterr().err)


@pytest.mark.parametrize("value", ["None", "8", "(3, -1)", "()", "('a',)"])
def test_an_input_shape_that_is_none_is_refused(config: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    config = broken(config, f"input_shape = {value}")
    assert call("search", config, "-o", config.parent / "run") == 2
    assert "expected input_shape as the sizes of one input without the batch" in capsys.readouterr().err


def test_networks_that_return_a_dictionary_have_costs_and_no_logsynflow(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = """def build(self, genotype):
        class Named(nn.Module):
            def __init__(self, network):
                super().__init__()
                self.network = network
            def forward(self, x):
                return {"logits": self.network(x)}
        return Named(super().build(genotype))"""
    assert call("search", broken(config, method), "-o", config.parent / "run") == 0
    config = broken(config, method, "{metric: logsynflow, source: training-free}")
    assert call("search", config, "-o", config.parent / "other") == 2
    expected = "logsynflow cannot be computed (expected a network that returns one tensor, got dict)"
    assert expected in capsys.readouterr().err


TRANSFORMERS = """
import torch
from torch import nn
from freerea_patch import InputError


class Transformer(nn.Module):
    def __init__(self, depth, heads, width):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(torch.zeros(1, 16, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(x)).mean(dim=1))


class Transformers:
    name, input_shape = "transformers", (3, 16, 16)
    choices = ((1, 2, 3), (1, 2, 4), (16, 32, 48))

    def check(self, genotype):
        if not all(int(gene) in choices for gene, choices in zip(genotype.split("-"), self.choices, strict=True)):
            raise InputError(f"expected depth, heads and width such as 2-4-32, got {genotype!r}")

    def sample(self, rng):
        return "-".join(str(rng.choice(choices)) for choices in self.choices)

    def mutate(self, genotype, rng):
        genes = genotype.split("-")
        index = rng.randrange(3)
        genes[index] = str(rng.choice([choice for choice in self.choices[index] if str(choice) != genes[index]]))
        return "-".join(genes)

    def crossover(self, first, second, rng):
        return "-".join(rng.choice(pair) for pair in zip(first.split("-"), second.split("-"), strict=True))

    def skip(self, genotype):
        return 2.0 * int(genotype.split("-")[0])

    def build(self, genotype):
        return Transformer(*map(int, genotype.split("-")))
"""


def test_a_space_of_transformers_has_a_front_of_the_default_metrics_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "transformers_space.py").write_text(TRANSFORMERS)
    config = tmp_path / "transformers.yaml"
    config.write_text(
        "space: transformers_space:Transformers\nsearch: {population: 6, tournament: 3}\nbudget: {evaluations: 12}\n"
        "live: {cache: off, batch_size: 8, initialisations: 1}\nobjectives:\n"
        + "".join(f"  - {{metric: {name}, source: training-free}}\n" for name in ("naswot", "logsynflow", "skip"))
        + "  - {metric: latency, source: {seval: {measure: latency, networks: 10}}, role: pareto}\n"
        "report:\n  - {metric: macs, source: cost}\n  - {metric: flops, source: cost}\n"
        "  - {metric: latency, name: measured, source: device}\n"
    )
    assert call("search", config, "-o", tmp_path / "run") == 0
    assert "unsupported" not in capsys.readouterr().err
    front = json.loads((tmp_path / "run" / "seed-0" / "result.json").read_text())["front"]
    assert front
    for row in front:
        assert all(math.isfinite(row[name]) for name in ("naswot", "logsynflow", "latency", "measured"))
        depth, _, width = map(int, row["genotype"].split("-"))
        # Of a token: the patch, and a layer's four projections, its products with 16 others, and its two linear layers.
        products = 16 * (48 * width + depth * (4 * width**2 + 2 * 16 * width + 4 * width**2)) + 10 * width
        biases = 16 * (width + depth * (4 * width + 2 * width + width)) + 10
        assert row["macs"] * 1e6 == pytest.approx(products + biases)
        assert row["flops"] >= row["macs"]
    assert call("report", tmp_path / "run") == 0
    assert front[0]["genotype"] in capsys.readouterr().out


def test_a_network_with_classes_of_the_users_is_exported_as_a_program_only(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "from torch import nn\n\nclass Block(nn.Sequential):\n    pass\n\n"
    code = own + SPACE.replace("return nn.Sequential(*layers", "return nn.Sequential(Block(), *layers")
    (config.parent / "towers_of_blocks.py").write_text(code)
    run = config.parent / "run"
    config.write_text(CONFIG.replace("towers_space", "towers_of_blocks").partition("  - {metric: latency")[0])
    assert call("search", config, "-o", run) == 0
    capsys.readouterr()
    assert call("export", run, "-o", config.parent / "tower.py") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.endswith("this network has towers_of_blocks.Block; name a file .onnx or .pt2 instead")
    for name in ("tower.onnx", "tower.pt2"):
        assert call("export", run, "-o", config.parent / name) == 0
    assert not (config.parent / "tower.py").exists()
