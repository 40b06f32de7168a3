"""The built-in metric sources: what they are called, where their values come from, which metrics they have."""

from __future__ import annotations

from freerea_seval.sources.registry import MetricInfo, Registry, SourceRecord

#: Device and how its numbers were made (Li 2021, section 3).
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
    MetricInfo("logsynflow", "max", "", "sum of |w log(1 + g)| over the weights (Cavagnero 2023)"),
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
    MetricInfo("synflow", "max", "", "log of the sum of |w g| for an input of ones, without batch norm (Tanaka 2020)"),
    MetricInfo("zen", "max", "", "log distance of features of near inputs, with Gaussian weights (Lin 2021)"),
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
    ),
    SourceRecord(
        "zero-cost",
        "the proxies of NAS-Bench-Suite-Zero on the live network, one initialisation (Krishnakumar 2022)",
        "freerea_seval.sources.zero_cost:ZeroCostSource",
        metrics=_ZERO_COST,
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
                "convolutions and linear layers with their biases, one multiply-add counts as one,"
                " as NATS-Bench publishes",
            ),
            MetricInfo("flops", "min", "M", "also batch norm, ReLU and pooling, as NAS-Bench-Suite-Zero publishes"),
            MetricInfo("activations", "min", "MB", "results of all operations on one input; 1 MB is 1e6 bytes"),
            MetricInfo("inference_memory", "min", "MB", "peak of inference on one input, with weights and buffers"),
            MetricInfo(
                "training_memory",
                "min",
                "MB",
                "peak of a training step: weights, gradients, momentum of SGD, and what is saved for the backward of"
                " live.batch_size inputs",
            ),
        ),
    ),
    SourceRecord(
        "device",
        "measured on this machine, in eager PyTorch",
        "freerea_seval.sources.device:DeviceSource",
        metrics=(MetricInfo("latency", "min", "ms", "median latency of one image on this machine"),),
    ),
    SourceRecord(
        "table",
        "a CSV file of your own: one row a network, one column a metric",
        "freerea_seval.sources.table:TableSource",
        "the file, or {path: FILE, key: COLUMN, missing: unsupported, unsupported: NUMBER}",
    ),
    SourceRecord(
        "nats-bench",
        "trained accuracy and costs of NATS-Bench (Dong 2021)",
        "freerea_seval.sources.nats_bench:NatsBenchSource",
        "the folder NATS-...-simple, or {path: FOLDER, epochs: N}",
        _NATS_BENCH,
    ),
    SourceRecord(
        "hw-nas-bench",
        "latency and energy on six devices, nats-tss (Li 2021)",
        "freerea_seval.sources.hw_nas_bench:HwNasBenchSource",
        "the file HW-NAS-Bench-v1_0.pickle",
        _HW_NAS_BENCH,
    ),
    SourceRecord(
        "freerea-cache",
        "FreeREA's published training-free metrics, nats-tss (Cavagnero 2023)",
        "freerea_seval.sources.freerea_cache:FreereaCacheSource",
        "the folder cached_metrics of FreeREA's code",
        _FREEREA_CACHE,
    ),
    SourceRecord(
        "analog-nasbench",
        "accuracy on analog hardware, nats-tss on CIFAR-10, in the package analog-nasbench",
        "freerea_seval.sources.analog_nasbench:AnalogNasbenchSource",
        metrics=_ANALOG_NASBENCH,
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
        "freerea_seval.sources.predicted:PredictedSource",
        "the folder of a trained predictor, or {measure: latency, networks: N, view: executed} to measure this machine"
        " and train one first",
    ),
)
BUILTIN = {record.name: record for record in _RECORDS}


def builtin_metric(source: str, metric: str) -> MetricInfo:
    """Return a metric of a built-in source.

    Raises:
        InputError: the source has no such metric.
    """
    return BUILTIN[source].metric(metric)


def register(registry: Registry) -> None:
    """Add the built-in sources."""
    for record in _RECORDS:
        registry.add(record)
