"""Figures of the reference model for the documentation: python -m models.reference.plots --out FOLDER

Every curve is measured on the running text of `evaluation.json` (held-out documents, five domains counting the same),
through the built shards in one process. Importance comes from `importance.json`, which was measured on other text.
Joules are modelled, and say so: CPU seconds of one expert row on the machine that draws, times a board profile's watts
a core. `figures.json` beside the plots has the numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hil_config.durable_file import write_durably
from hil_config.schema.profiles import load_profile
from hil_config.wire.importance import Importance, decode_importance
from hil_config.wire.manifest import Precision
from models.budget import DROP, allocate, byte_weights, options
from models.build import build_shards
from models.evaluate import items, read_evaluation
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.probe import Place, Probe, Setting, mean, nats
from models.reference.svg_plot import Line, heat_map, line_plot

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
DROPPED = (0, 1, 2, 4, 8)
DRAWS = 2
PROFILE = "raspberry-pi-5"
"""Board whose watts a busy core the modelled joules use; its file says where they come from."""

Texts = Mapping[str, Sequence[Sequence[int]]]


def evaluation_texts(context: int) -> dict[str, list[tuple[int, ...]]]:
    """Running text by domain."""
    checkpoint, out = reference_checkpoint(), dict[str, list[tuple[int, ...]]]()
    evaluation = read_evaluation(checkpoint / "evaluation.json")
    for item in items(evaluation, read_tokenizer(checkpoint), 0, context):
        if item.question < 0:
            out.setdefault(item.domain, []).append(item.tokens)
    return out


class Figures:
    """The probe, the text, and everything measured so far by name."""

    def __init__(self, shards: Path) -> None:
        self.probes = {p: Probe(shards, p) for p in ("fp32", "int8", "int4")}
        self.probe = self.probes["fp32"]
        self.texts = evaluation_texts(self.probe.card.context)
        self.tokens = sum(len(t) - 1 for texts in self.texts.values() for t in texts)
        path = reference_checkpoint() / "importance.json"
        self.importance: Importance = decode_importance(path.read_bytes(), str(path))
        self.numbers: dict[str, object] = {"tokens": self.tokens}
        card = self.probe.card
        self.places = [(layer, e) for layer in range(card.layers) for e in range(card.experts)]

    def loss(self, setting: Setting, precision: str = "fp32") -> tuple[float, float]:
        """Nats a token, and expert rows computed per token and layer."""
        probe = self.probes[precision]
        before = probe.calls
        value = mean(nats(probe, self.texts, setting))
        return value, (probe.calls - before) / self.tokens / probe.card.layers

    def experts_used(self) -> str:
        """Perplexity by domain against experts a token and layer."""
        used: list[float] = []
        curves: dict[str, list[float]] = {domain: [] for domain in self.texts}
        for threshold in (*THRESHOLDS, 1.1):
            before = self.probe.calls
            by_domain = nats(self.probe, self.texts, Setting(second_above=threshold))
            used.append((self.probe.calls - before) / self.tokens / self.probe.card.layers)
            for domain, value in by_domain.items():
                curves[domain].append(math.exp(value))
        self.numbers["experts_used"] = {"thresholds": [*THRESHOLDS, "top 1"], "used": used, "perplexity": curves}
        lines = [Line(domain, used, values) for domain, values in curves.items()]
        return line_plot(
            "Skipping the second expert below a mixing weight", "experts a token and layer (2 = the model's own)",
            "held-out perplexity", lines,
        )  # fmt: skip

    def dropped(self) -> str:
        """Nats against experts dropped in every layer, by who is dropped and what takes their place."""
        value = np.array(self.importance.contribution)
        least = np.argsort(value, axis=1)
        rng = np.random.default_rng(6)
        draws = [np.argsort(rng.random(value.shape), axis=1) for _ in range(DRAWS)]
        substitute = self.importance.substitute
        lines, numbers = [], {}
        for name, orders, way in (
            ("least important, next best", [least], "reroute"), ("least important, left out", [least], "zero"),
            ("least important, substitute", [least], "substitute"), ("random, next best", draws, "reroute"),
            ("random, left out", draws, "zero"), ("most important, next best", [least[:, ::-1]], "reroute"),
        ):  # fmt: skip
            curve = []
            for count in DROPPED:
                found = []
                for order in orders:
                    gone = frozenset((layer, int(e)) for layer, row in enumerate(order) for e in row[:count])
                    if way == "substitute":
                        other = {place: self._living(substitute, place, gone) for place in gone}
                        found.append(self.loss(Setting(substitute=other))[0])
                    else:
                        found.append(self.loss(Setting(lost=gone, reroute=way == "reroute"))[0])
                curve.append(float(np.mean(found)))
            lines.append(Line(name, DROPPED, curve, dashed=way != "reroute"))
            numbers[name] = curve
        self.numbers["dropped"] = {"count": DROPPED, "nats": numbers}
        return line_plot("Experts lost in every layer", "experts lost of 16", "held-out nats a token", lines)

    def _living(self, substitute: Sequence[Sequence[int]], place: Place, gone: frozenset[Place]) -> int:
        """The nearest expert that is there: the substitute, or the most similar other."""
        layer, expert = place
        if (layer, substitute[layer][expert]) not in gone:
            return substitute[layer][expert]
        order = np.argsort(self.importance.similarity[layer][expert])[::-1]
        return next(int(e) for e in order if e != expert and (layer, int(e)) not in gone)

    def precisions(self) -> str:
        """Nats against bytes of all experts: one precision for all, the knapsack's mix, and random mixes."""
        weights = byte_weights(self.importance)
        sizes = {p: table[0][0] for p, table in weights.items()}
        uniform = {p: self.loss(Setting(precision=dict.fromkeys(self.places, p)))[0] for p in ("int4", "int8", "fp16")}
        count = len(self.places)
        budgets = [count * sizes["int4"] * f for f in (0.5, 0.7, 0.85)]
        budgets += [count * (sizes["int4"] + f * (sizes["int8"] - sizes["int4"])) for f in (0.0, 0.5, 1.0)]
        chosen: list[float] = []
        spent: list[float] = []
        random_mix: list[float] = []
        usable = {p: weights[p] for p in ("int4", "int8")}
        rng = np.random.default_rng(8)
        for budget in budgets:
            found = allocate(options(self.importance, usable), budget)
            chosen.append(self.loss(_as_setting(found.choice))[0])
            spent.append(found.weight / 1e6)
            names = list(found.choice.values())
            mixes = [dict(zip(self.places, rng.permutation(names), strict=True)) for _ in range(DRAWS)]
            random_mix.append(float(np.mean([self.loss(_as_setting(mix))[0] for mix in mixes])))
        self.numbers["precision"] = {
            "uniform": {p: {"bytes": count * sizes[p], "nats": v} for p, v in uniform.items()},
            "fp32_nats": self.loss(Setting())[0], "megabytes": spent, "knapsack": chosen, "random": random_mix,
        }  # fmt: skip
        lines = [
            Line("knapsack over drop, int4, int8", spent, chosen),
            Line("the same counts at random", spent, random_mix, dashed=True),
            Line("all int4, all int8", [count * sizes[p] / 1e6 for p in ("int4", "int8")],
                 [uniform[p] for p in ("int4", "int8")]),
        ]  # fmt: skip
        return line_plot("Bytes spent on experts", "bytes of all expert shards, MB", "held-out nats a token", lines)

    def joules(self) -> str:
        """Perplexity against modelled joules of the expert calls of a token."""
        profile = load_profile(PROFILE)
        watts = profile.per_core_w * profile.cpu_scale
        lines, numbers = [], {}
        for precision in ("fp32", "int8", "int4"):
            call_j = self._call_seconds(precision) * watts
            x, y = [], []
            for threshold in (*THRESHOLDS, 1.1):
                value, used = self.loss(Setting(second_above=threshold), precision)
                x.append(used * self.probe.card.layers * call_j * 1e3)
                y.append(math.exp(value))
            lines.append(Line(f"{precision} experts", x, y))
            numbers[precision] = {"call_us": call_j / watts * 1e6, "millijoules": x, "perplexity": y}
        self.numbers["modelled_joules"] = {"profile": PROFILE, "watts": watts, **numbers}
        return line_plot(
            "Perplexity against MODELLED energy of expert calls",
            f"modelled mJ a token ({PROFILE}), expert calls alone",
            "held-out perplexity (geometric mean)", lines,
        )  # fmt: skip

    def _call_seconds(self, precision: str) -> float:
        """CPU seconds of one expert on one row, lower quartile of many: what is modelled from, not measured energy."""
        probe, rows = self.probes[precision], np.ones((1, self.probe.card.hidden), np.float32)
        taken = []
        for index in range(2000):
            place = self.places[index % len(self.places)]
            begun = time.thread_time()
            probe.expert(place, rows)
            taken.append(time.thread_time() - begun)
        return float(np.percentile(taken, 25))

    def specialisation(self) -> str:
        """Which experts each domain's tokens pick, relative to the mean."""
        found, rows = self.importance, []
        for layer in range(len(found.activation)):
            for index, domain in enumerate(found.domains):
                row = np.array(found.activation_by_domain[index][layer])
                rows.append((f"{layer}  {domain}", (row / row.mean()).tolist()))
        bits = ", ".join(f"{value:.2f}" for value in found.mutual_information)
        self.numbers["mutual_information_bits"] = found.mutual_information
        note = f"activation / mean (blue: more); MI(domain; expert) by layer {bits} bits"
        return heat_map("Which experts each domain picks, by layer", "expert", rows, 1.0, note)


def _as_setting(choice: Mapping[Place, str]) -> Setting:
    precision: dict[Place, Precision] = {}
    for place, name in choice.items():
        if name in {"int4", "int8", "fp16"}:
            precision[place] = name  # type: ignore[assignment]
    return Setting(
        precision=precision, lost=frozenset(place for place, name in choice.items() if name == DROP), reroute=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the figures of the reference model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the SVG files and figures.json")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        shards = Path(work) / "shards"
        build_shards(reference_checkpoint(), shards, ("fp32", "fp16", "int8", "int4"))
        figures = Figures(shards)
        for name in ("specialisation", "experts_used", "dropped", "precisions", "joules"):
            write_durably(arguments.out / f"{name}.svg", getattr(figures, name)().encode())
            write_durably(arguments.out / "figures.json", (json.dumps(figures.numbers, indent=1) + "\n").encode())
            print(name, flush=True)


if __name__ == "__main__":
    main()
