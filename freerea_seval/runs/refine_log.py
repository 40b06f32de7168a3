"""The log of a search that measures in rounds: which networks were chosen, and their measured values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from freerea_patch import Measured
from freerea_seval.files import JsonLines
from freerea_seval.runs.folder import from_json, to_json
from freerea_seval.sources.learned import Prediction

_ROW = TypeAdapter(dict[str, Any])


class RefineLog:
    """The file of choices and measured values.

    Args:
        path: the file.
        earlier: values from earlier runs by column and network; see :mod:`freerea_seval.runs.earlier`.

    Raises:
        InputError: a line is neither a choice nor a value.
    """

    def __init__(self, path: Path, earlier: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> None:
        self._lines = JsonLines(path)
        #: By round and column: the chosen networks, with the predictions at that time.
        self.wanted: dict[tuple[int, str], dict[str, Prediction]] = {}
        #: By column and network: all values with their rounds; NaN for a network that is not supported. Those of
        #: earlier runs are from before the first round, which is 0.
        self.values: dict[str, dict[str, list[tuple[int, float]]]] = {
            column: {genotype: [(-1, value) for value in values] for genotype, values in by_network.items()}
            for column, by_network in (earlier or {}).items()
        }
        #: Seconds by what they were spent on.
        self.seconds: dict[str, float] = {}
        #: Seconds of measuring by network.
        self.measuring_s: dict[str, float] = {}
        what = "a choice or a value"
        for number, row in enumerate(self._lines.rows(_ROW, what), start=1):
            try:
                self._take(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._lines.damaged(f"line {number}", what, f"{type(error).__name__}: {error}") from None

    def _take(self, row: Mapping[str, Any]) -> None:
        if "wanted" in row:
            wanted = {g: Prediction(*map(from_json, triple)) for g, triple in row["wanted"].items()}
            self.wanted[int(row["round"]), str(row["column"])] = wanted
        elif "genotype" in row:
            column, genotype, value = str(row["column"]), str(row["genotype"]), from_json(row["value"])
            self.values.setdefault(column, {}).setdefault(genotype, []).append((int(row["round"]), value))
            self._spend(f"measure {column}", float(row["seconds"]))
            self.measuring_s[genotype] = self.measuring_s.get(genotype, 0.0) + float(row["seconds"])
        else:
            self._spend(f"train {row['column']}", float(row["trained_s"]))

    def _spend(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _add(self, row: dict[str, Any]) -> None:
        self._lines.append(row)
        self._take(row)

    def want(self, number: int, column: str, predictions: Mapping[str, Prediction]) -> None:
        """Record the networks that were chosen in a round."""
        wanted = {genotype: [to_json(part) for part in triple] for genotype, triple in predictions.items()}
        self._add({"round": number, "column": column, "wanted": wanted})

    def value(self, number: int, column: str, genotype: str, measured: Measured) -> None:
        """Record a value."""
        row = {"round": number, "column": column, "genotype": genotype}
        self._add({**row, "value": to_json(measured.value), "seconds": measured.seconds})

    def train(self, column: str, seconds: float) -> None:
        """Record the seconds that training took."""
        self._add({"column": column, "trained_s": seconds})

    def known(self, column: str, before: float = math.inf) -> dict[str, float]:
        """Return the values of a column from the rounds before a number; several of a network are averaged."""
        known = {}
        for genotype, pairs in self.values.get(column, {}).items():
            values = [value for number, value in pairs if number < before]
            finite = [value for value in values if math.isfinite(value)]
            if values:
                known[genotype] = fmean(finite) if finite else math.nan
        return known

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
