"""The registry of metric sources: the built-in ones, and those of installed packages.

A source is a frozen record. Listing the records imports no source; :meth:`Registry.open` imports the one that it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

from freerea_patch import Direction, InputError, Measured, SearchSpace, import_object, unknown_name
from freerea_seval.config import LiveSettings
from freerea_seval.progress import Progress

#: A package adds sources by an entry point of this group that names ``function(registry)``.
ENTRY_POINTS = "freerea_seval.metrics"


@dataclass(frozen=True)
class MetricInfo:
    """Description of a metric of a source.

    Attributes:
        name: the metric's name in the source.
        direction: ``"max"``, ``"min"``, or None where the user has to say it.
        unit: unit of the values, empty for none.
        description: one line.
        note: what a search and its report tell the user about the values; empty for nothing.
    """

    name: str
    direction: Direction | None = None
    unit: str = ""
    description: str = ""
    note: str = ""


class Source(Protocol):
    """A metric source that a config can name."""

    def describe(self, metric: str) -> MetricInfo:
        """Return the description of ``metric``; raise :class:`InputError` if the source does not have it."""
        ...

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterable[Mapping[str, Measured]]:
        """Yield one mapping a genotype, in order: see :class:`freerea_patch.MetricSource`."""
        ...


@dataclass(frozen=True)
class Context:
    """The search that a source is opened for.

    Attributes:
        space: the search space.
        live: settings for metrics that are computed on networks.
        base: the folder that relative paths of the config start from.
        folder: where a source may keep files that belong to the run; None outside of runs.
        seed: of what the source prepares at random.
        progress: shows the steps of long preparations.
        refines: whether sources that learn are given measurements during the search, in rounds.
        space_name: the space as the config names it, from which another process makes it.
        dry: only a check: nothing is measured or trained before the search, and nothing is written.
    """

    space: SearchSpace
    live: LiveSettings = field(default_factory=LiveSettings)
    base: Path = Path()
    folder: Path | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Progress)
    refines: bool = False
    space_name: str | Mapping[str, Any] = ""
    dry: bool = False

    @property
    def batch(self) -> str:
        """The setting ``live.batch``, with a file relative to the config's folder."""
        return str(self.base / self.live.batch) if self.live.batch.endswith(".npz") else self.live.batch

    def path(self, argument: object, what: str) -> Path:
        """Return a path argument, relative to the config's folder.

        Raises:
            InputError: the argument is missing or is no path.
        """
        if not isinstance(argument, str) or not argument:
            raise InputError(f"{what}: expected a path, got {argument!r}")
        return self.base / Path(argument).expanduser()


#: Opens a source: ``factory(context, argument)``.
SourceFactory = Callable[[Context, Any], Source]


@dataclass(frozen=True)
class SourceRecord:
    """An entry of the registry.

    Attributes:
        name: the name that a config uses.
        origin: one line: where the values come from.
        factory: ``pkg.module:name`` of a :data:`SourceFactory`.
        argument: what the config has to give, as ``source: {name: argument}``; empty for nothing.
        metrics: the metrics of the source; empty if they depend on the argument.
        workers: whether worker processes compute the values: ``always``, where these take long and depend on the
            network alone; ``asked``, only if the user asks for workers, as this project does not know; ``never``, where
            they take less time than a message to a worker; ``clock``, never either, and nothing else may run meanwhile.
    """

    name: str
    origin: str
    factory: str
    argument: str = ""
    metrics: tuple[MetricInfo, ...] = ()
    workers: Literal["always", "asked", "never", "clock"] = "asked"

    def load_factory(self) -> SourceFactory:
        """Import the factory.

        Raises:
            InputError: it cannot be imported.
        """
        factory: SourceFactory = import_object(self.factory, f"source {self.name!r}")
        return factory

    def metric(self, name: str) -> MetricInfo:
        """Return one of :attr:`metrics` by name.

        Raises:
            InputError: the source has no such metric.
        """
        for info in self.metrics:
            if info.name == name:
                return info
        raise unknown_name(f"metric of source {self.name!r}:", name, [m.name for m in self.metrics])


class Registry:
    """Sources by name.

    Args:
        records: the first sources.
    """

    def __init__(self, records: Iterable[SourceRecord] = ()) -> None:
        self._records: dict[str, SourceRecord] = {}
        for record in records:
            self.add(record)

    def add(self, record: SourceRecord) -> None:
        """Add a source.

        Raises:
            ValueError: there is a source of this name.
        """
        if record.name in self._records:
            raise ValueError(f"a metric source named {record.name!r} is registered already")
        self._records[record.name] = record

    def __iter__(self) -> Iterator[SourceRecord]:
        """Iterate over the sources in the order of registration."""
        return iter(self._records.values())

    def __getitem__(self, name: str) -> SourceRecord:
        """Return the source of a name; raise :class:`InputError` if there is none."""
        if name not in self._records:
            raise unknown_name("metric source", name, self._records)
        return self._records[name]

    def open(self, name: str, argument: Any, context: Context) -> Source:
        """Return the source of a name, made with its argument.

        Raises:
            InputError: there is no such source, it takes no argument, or it cannot use this one.
        """
        record = self[name]
        if argument is not None and not record.argument:
            raise InputError(f"source {name!r} takes no argument, got {argument!r}; write 'source: {name}'")
        if argument is None and record.argument:
            raise InputError(f"source {name!r} needs an argument: 'source: {{{name}: ...}}', {record.argument}")
        return record.load_factory()(context, argument)


def load_registry() -> Registry:
    """Return the built-in sources and those of installed packages.

    Raises:
        InputError: an installed package's entry point fails.
    """
    registry = Registry(BUILTIN.values())
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, p.value)):
        try:
            point.load()(registry)
        except Exception as error:  # a third-party package may raise anything
            raise InputError(
                f"metric sources of entry point {point.name!r} ({point.value}) cannot be loaded"
                f" ({type(error).__name__}: {error}); repair or uninstall that package"
            ) from error
    return registry


def builtin_metric(source: str, metric: str) -> MetricInfo:
    """Return a metric of a built-in source.

    Raises:
        InputError: the source has no such metric.
    """
    return BUILTIN[source].metric(metric)


#: Devices of HW-NAS-Bench, and how their numbers were obtained (Li 2021, section 3).
_DEVICES = {
    "edgegpu": "measured on NVIDIA Jetson TX2",
    "raspi4": "measured on Raspberry Pi 4",
    "edgetpu": "measured on Google Edge TPU; unsupported where it cannot run the cell",
    "pixel3": "measured on Google Pixel 3",
    "eyeriss": "estimated for the ASIC Eyeriss by simulators",
    "fpga": "estimated for the FPGA board Xilinx ZC706",
}
_HW_NAS_BENCH = (
    *(MetricInfo(f"{device}_latency", "min", "ms", f"latency, {how}") for device, how in _DEVICES.items()),
    *(MetricInfo(f"{d}_energy", "min", "mJ", f"energy, {_DEVICES[d]}") for d in ("edgegpu", "eyeriss", "fpga")),
    MetricInfo("eyeriss_arithmetic_intensity", "max", "op/byte", f"operations a byte moved, {_DEVICES['eyeriss']}"),
)

_HW_GPT_BENCH = (
    MetricInfo(
        "perplexity", "min", "", "predicted perplexity on OpenWebText, with the weights of the benchmark's supernet"
    ),
    *(
        MetricInfo(
            f"{kind}_memory", "min", "MB", f"predicted memory after a pass in {kind} on a GPU; 1 MB is 1e6 bytes"
        )
        for kind in ("float16", "bfloat16")
    ),
)

_TRAINED = "mean over the training seeds"
_SPLIT = "on CIFAR-10, of training on the train split alone"
_NATS_BENCH = (
    MetricInfo("test_accuracy", "max", "%", f"accuracy on the test set, {_TRAINED}"),
    MetricInfo("valid_accuracy", "max", "%", f"accuracy on the validation set, {_TRAINED}; {_SPLIT}"),
    MetricInfo("train_accuracy", "max", "%", f"accuracy on the training set, {_TRAINED}"),
    MetricInfo("test_loss", "min", "", f"cross-entropy on the test set, {_TRAINED}"),
    MetricInfo("valid_loss", "min", "", f"cross-entropy on the validation set, {_TRAINED}; {_SPLIT}"),
    MetricInfo("train_loss", "min", "", f"cross-entropy on the training set, {_TRAINED}"),
    MetricInfo("params", "min", "M", "parameters"),
    MetricInfo("flops", "min", "M", "multiply-adds, one counts as one"),
    MetricInfo("latency", "min", "s", "latency of a batch of 256 images on the authors' GPU"),
    MetricInfo("train_seconds", "min", "s", "time of the whole training on the authors' GPU"),
)

_DRIFT_TIMES = {60: "a minute", 3600: "an hour", 86400: "a day", 2592000: "30 days"}
_ANALOG_NASBENCH = (
    MetricInfo("baseline_accuracy", "max", "%", "CIFAR-10 accuracy on digital hardware"),
    MetricInfo("ptq_accuracy", "max", "%", "accuracy after post-training quantisation"),
    MetricInfo("qat_accuracy", "max", "%", "accuracy after quantisation-aware training"),
    MetricInfo("noisy_accuracy", "max", "%", "accuracy of the baseline on noisy analog hardware"),
    MetricInfo("analog_accuracy", "max", "%", "accuracy after hardware-aware training, on analog hardware"),
    *(
        MetricInfo(f"{weights}_drift_{s}", "max", "%", f"accuracy of {trained} weights after {time} of drift")
        for weights, trained in (("baseline", "the baseline's"), ("analog", "hardware-aware"))
        for s, time in _DRIFT_TIMES.items()
    ),
)

_TRAINING_FREE = (
    MetricInfo("naswot", "max", "", "distinct activation patterns of a batch (Mellor 2021)"),
    MetricInfo("logsynflow", "max", "", "sum of |w| log(1 + |g|) over the weights, without norms (Cavagnero 2023)"),
    MetricInfo("skip", "max", "", "mean length of the skip connections (Cavagnero 2023)"),
)
_ZERO_COST = (
    MetricInfo("epe_nas", "max", "", "correlation of the images' gradients within each class (Lopes 2021)"),
    MetricInfo("fisher", "max", "", "Fisher information of all channels (Theis 2018; Turner 2020)"),
    MetricInfo("flops", "max", "M", "operations, as a hint at accuracy; a cost to keep low is that of 'cost'"),
    MetricInfo("grad_norm", "max", "", "sum of the norms of the layers' gradients (Abdelfattah 2021)"),
    MetricInfo("grasp", "max", "", "-sum of w Hg over the weights (Wang 2020; sign of Abdelfattah 2021)"),
    MetricInfo("jacov", "max", "", "spectrum of the correlation of the images' gradients (Mellor 2020, version 1)"),
    MetricInfo("l2_norm", "max", "", "sum of the norms of the layers' weights (Abdelfattah 2021)"),
    MetricInfo("nwot", "max", "", "distinct activation patterns of a batch (Mellor 2021)"),
    MetricInfo("params", "max", "M", "parameters, as a hint at accuracy; a cost to keep low is that of 'cost'"),
    MetricInfo("plain", "max", "", "sum of w g over the weights (Mozer 1988; Abdelfattah 2021); mostly chance"),
    MetricInfo("snip", "max", "", "sum of |w g| over the weights (Lee 2019)"),
    MetricInfo("synflow", "max", "", "log of the sum of |w g| for an input of ones, without norms (Tanaka 2020)"),
    MetricInfo("zen", "max", "", "log distance of features of near inputs, with Gaussian weights (Lin 2021)"),
    MetricInfo("depth", "max", "", "weighted layers on a path, a mean by synaptic flow (flow: Tanaka 2020)"),
    MetricInfo(
        "expressivity", "max", "", "entropy of the spectra of the blocks' features for noise (Lee 2024, AZ-NAS)"
    ),
    MetricInfo(
        "independence",
        "max",
        "",
        "log spectrum of the last features' correlation, for noise (ours; total correlation: Watanabe 1960)",
    ),
    MetricInfo(
        "meco", "max", "", "least eigenvalues of the correlations of channels, for one image of noise (Jiang 2023)"
    ),
    MetricInfo("progressivity", "max", "", "least growth of that entropy from a block to the next (Lee 2024, AZ-NAS)"),
    MetricInfo("swap", "max", "", "number of distinct patterns of activation over a batch (Peng 2024)"),
    MetricInfo("trainability", "max", "", "how near the blocks' Jacobians are to isometries (Lee 2024, AZ-NAS)"),
    MetricInfo("vkdnw", "max", "", "evenness of the spectrum of the Fisher information, for noise (Tybl 2025)"),
    MetricInfo("vkdnw_dim", "max", "", "weights and biases of layers and norms, each tensor counts as one (Tybl 2025)"),
    MetricInfo("zico", "max", "", "mean over deviation of gradients of both halves of a batch (Li 2023)"),
)
_FREEREA_CACHE = (
    *_TRAINING_FREE,
    MetricInfo("synflow", "max", "", "sum of |w g| over the weights (Tanaka 2020)"),
    MetricInfo("nregions", "max", "", "linear regions of the input space"),
    MetricInfo("params", "min", "M", "parameters"),
    MetricInfo("accuracy", "max", "%", "NATS-Bench's test accuracy after 200 epochs"),
)

_RECORDS = (
    SourceRecord(
        "training-free",
        "computed on the live network (Cavagnero 2023)",
        "freerea_seval.sources.live:TrainingFreeSource",
        metrics=_TRAINING_FREE,
        workers="always",
    ),
    SourceRecord(
        "zero-cost",
        "proxies of NAS-Bench-Suite-Zero (Krishnakumar 2022) and later ones on the live network, one initialisation",
        "freerea_seval.sources.live:ZeroCostSource",
        metrics=_ZERO_COST,
        workers="always",
    ),
    SourceRecord(
        "cost",
        "counted on the live network",
        "freerea_seval.sources.live:CostSource",
        metrics=(
            MetricInfo("params", "min", "M", "parameters"),
            MetricInfo(
                "macs",
                "min",
                "M",
                "convolutions and matrix products with their biases, one multiply-add counts as one, as NATS-Bench"
                " publishes",
            ),
            MetricInfo("flops", "min", "M", "also norms, activations and pooling, as NAS-Bench-Suite-Zero publishes"),
            MetricInfo("activations", "min", "MB", "results of all operations on one input; 1 MB is 1e6 bytes"),
            MetricInfo("inference_memory", "min", "MB", "peak of inference on one input, with weights and buffers"),
            MetricInfo(
                "training_memory",
                "min",
                "MB",
                "peak of a training step: weights, gradients, momentum of SGD, and what is saved for the backward of"
                " live.batch_size inputs",
            ),
            MetricInfo(
                "prompt_macs", "min", "M", "of a language model: from a prompt of its context to the next token"
            ),
            MetricInfo("token_macs", "min", "M", "of a language model: one more token at its context, with a KV cache"),
            MetricInfo("kv_cache", "min", "MB", "of a language model: keys and values of its context in float16"),
            MetricInfo(
                "serving_memory", "min", "MB", "of a language model: peak in float16, with weights and KV cache"
            ),
            MetricInfo(
                "decoder_params",
                "min",
                "M",
                "of a language model: parameters without embedding and head (Javaheripi 2022, LiteTransformerSearch)",
            ),
        ),
        workers="never",
    ),
    SourceRecord(
        "device",
        "measured on this machine, in eager PyTorch",
        "freerea_seval.sources.device:DeviceSource",
        metrics=(
            MetricInfo("latency", "min", "ms", "median latency of one image on this machine"),
            MetricInfo("memory", "min", "MB", "peak of inference on one image, in a process of its own (Linux, cpu)"),
            MetricInfo("energy", "min", "mJ", "of the processor, for one image (Intel's RAPL counters, Linux)"),
            MetricInfo("time_to_first_token", "min", "ms", "of a language model: a prompt of its context to a token"),
            MetricInfo("time_per_token", "min", "ms", "of a language model: the last token of its context, KV cache"),
        ),
        workers="clock",
    ),
    SourceRecord(
        "table",
        "a CSV file of your own: one row a network, one column a metric",
        "freerea_seval.sources.table:TableSource",
        "the file, or {path: FILE, key: COLUMN, missing: unsupported, unsupported: NUMBER}",
        workers="never",
    ),
    SourceRecord(
        "nats-bench",
        "trained accuracy and costs of NATS-Bench (Dong 2021)",
        "freerea_seval.sources.nats_bench:NatsBenchSource",
        "the folder NATS-...-simple, or {path: FOLDER, epochs: N}",
        _NATS_BENCH,
        "never",
    ),
    SourceRecord(
        "hw-nas-bench",
        "latency and energy on six devices, nats-tss (Li 2021)",
        "freerea_seval.sources.hw_nas_bench:HwNasBenchSource",
        "the file HW-NAS-Bench-v1_0.pickle",
        _HW_NAS_BENCH,
        "never",
    ),
    SourceRecord(
        "hw-gpt-bench",
        "perplexity and memory of gpt-s, gpt-m and gpt-l, predicted by the benchmark's own networks (Sukthanker 2024)",
        "freerea_seval.sources.hw_gpt_bench:HwGptBenchSource",
        "the folder HW-GPT-Bench, a clone of its repository",
        _HW_GPT_BENCH,
        "never",
    ),
    SourceRecord(
        "freerea-cache",
        "FreeREA's published training-free metrics, nats-tss (Cavagnero 2023)",
        "freerea_seval.sources.freerea_cache:FreereaCacheSource",
        "the folder cached_metrics of FreeREA's code",
        _FREEREA_CACHE,
        "never",
    ),
    SourceRecord(
        "analog-nasbench",
        "accuracy on analog hardware, nats-tss on CIFAR-10, in the package analog-nasbench",
        "freerea_seval.sources.analog_nasbench:AnalogNasbenchSource",
        metrics=_ANALOG_NASBENCH,
        workers="never",
    ),
    SourceRecord(
        "python",
        "a function of yours that takes a genotype, or a network",
        "freerea_seval.sources.python_metric:PythonSource",
        "pkg.module:callable",
    ),
    SourceRecord(
        "seval",
        "predicted from the network's string",
        "freerea_seval.sources.learned:open_seval",
        "the folder of a trained predictor; {measure: latency, networks: N, view: executed} to measure this machine"
        " (or memory, energy) and train one first; with 'refine', also {ask: METRIC} or {SOURCE: ARGUMENT}, such as"
        " {python: pkg.module:callable}",
        workers="never",
    ),
)
BUILTIN = {record.name: record for record in _RECORDS}
