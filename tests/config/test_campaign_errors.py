"""A campaign file's own rules, and those it keeps only together with a bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_config.errors import ConfigError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign

GOOD = """\
campaign: pass
orbit:
  satellites: [A, B]
  epoch_utc: 2024-10-21T08:20:00Z
  duration_s: 600
  step_s: 1
twin:
  start:
    - {temperature_c: 20, charge: 0.5}
    - {temperature_c: 20, charge: 0.5}
  limits: {temperature_soft_c: 60, temperature_hard_c: 75}
"""
TWO_BOARDS = "bench: b\nboards: [{name: x, profile: local-process}, {name: y, profile: local-process}]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults(tmp_path: Path) -> None:
    campaign = load_campaign(written(tmp_path, GOOD))
    model, orbit, control = campaign.model, campaign.orbit, campaign.control
    assert (model.checkpoint, model.precision, model.trunk_slices) == ("reference", "int8", 2)
    assert (model.replicas, model.hidden_codec) == (2, "fp16")
    assert (orbit.elements, orbit.rate, orbit.max_range_km, orbit.grazing_km) == ("demo", 10.0, 5016.0, 80.0)
    assert orbit.epoch_utc == "2024-10-21T08:20:00Z"  # as written, though YAML would read an instant
    assert (campaign.policies.placement.name, campaign.policies.selection.name) == ("rank_match", "lyapunov")
    assert (campaign.workload.concurrency, campaign.workload.requests) == (6, None)
    assert (control.tick_s, control.plan_ttl_s) == (0.5, 5.0)
    assert campaign.twin.platform.model_dump(exclude_none=True) == {"preset": "12u-bupt1"}


def test_a_file_beside_the_campaign_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record holds the path: whoever replays it may stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.json").write_text("[]", encoding="utf-8")
    written(Path(), GOOD + "workload: {prompts: prompts.json}\n")
    assert load_campaign(Path("campaign.yaml")).workload.prompts == str(tmp_path / "prompts.json")


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("pass", "my pass", "1:11", "campaign: found 'my pass', wanted 1 to 63 letters"),
        ("campaign: pass", "campaign: pass\nseed: -1", "2:7",
         "seed: found -1, wanted a whole number from 0 to 4294967295"),
        ("campaign: pass", "campaign: pass\nmodel: {precision: int3}", "2:20",
         "model.precision: found 'int3', wanted one of fp32, fp16, int8, int4"),
        ("[A, B]", "[A]", "3:15", "orbit.satellites: found a list of 1, wanted a list of 2 to 2048 entries"),
        ("[A, B]", "[A, A]", "3:19", "orbit.satellites[1]: found 'A', which is satellites[0] already"),
        ("[A, B]", "[A, 25544]", "3:19", "orbit.satellites[1]: found 25544, wanted a text that is not empty"),
        ("2024-10-21T08:20:00Z", "yesterday", "4:14",
         "orbit.epoch_utc: found 'yesterday', wanted an ISO 8601 instant"),
        ("2024-10-21T08:20:00Z", "2024-10-21T08:20:00+02:00", "4:14",
         "orbit.epoch_utc: found '2024-10-21T08:20:00+02:00', wanted an instant that says it is UTC"),
        ("duration_s: 600", "duration_s: 0", "5:15",
         "orbit.duration_s: found 0, wanted a number above 0 and at most 2592000"),
        ("duration_s: 600", "duration_s: .inf", "5:15",
         "orbit.duration_s: found inf, wanted a number above 0"),
        ("duration_s: 600", "duration_s: .nan", "5:15",
         "orbit.duration_s: found nan, wanted a number above 0"),
        ("step_s: 1", "step_s: 7", "6:11",
         "orbit.step_s: found 7, wanted a part of duration_s (600) without remainder"),
        ("step_s: 1", "step_s: 0.0001", "6:11", "orbit.step_s: found 0.0001, which makes 6000001 samples"),
        ("step_s: 1", "plan_factual: flown.csv", "6:17", "orbit.plan_factual: found without orbit.plan"),
        ("step_s: 1", "plan: a.csv\n  schedule: b.hsched", "6:9",
         "orbit.plan: found a contact plan beside orbit.schedule, wanted one of them"),
        ("step_s: 1", "rate: fast", "6:9", "orbit.rate: found 'fast', wanted a number from 0.01 to 1000"),
        ("step_s: 1", "rates: 10", "6:3", "orbit.rates: unknown key; did you mean rate?"),
        ("{temperature_c: 20, charge: 0.5}\n    -", "{temperature_c: 20, charge: 1.5}\n    -", "9:35",
         "twin.start[0].charge: found 1.5, wanted a number from 0 to 1"),
        ("{temperature_c: 20, charge: 0.5}\n    -", "{charge: 0.5}\n    -", "9:7",
         "twin.start[0].temperature_c: missing, wanted a number from -100 to 150"),
        ("temperature_hard_c: 75", "temperature_hard_c: 60", "11:56",
         "twin.limits.temperature_hard_c: found 60, wanted more than temperature_soft_c (60)"),
        ("temperature_hard_c: 75", "charge_hard: 0.4", "11:49",
         "twin.limits.charge_hard: found 0.4, wanted less than charge_soft (0.35)"),
        ("temperature_hard_c: 75", "charge_hysteresis: 0.9", "11:55",
         "twin.limits.charge_hysteresis: found 0.9, wanted at most 1 - charge_soft (0.65)"),
        ("twin:", "twin:\n  accounting: twice", "8:15", "twin.accounting: found 'twice', wanted one of duty, once"),
        ("twin:", "twin:\n  platform: {battery_wh: 0}", "8:26",
         "twin.platform.battery_wh: found 0, wanted a number above 0 or null"),
        ("twin:", "twin:\n  platform: {array_efficiency: 1.1}", "8:32",
         "twin.platform.array_efficiency: found 1.1, wanted a number from 0 to 1 or null"),
        ("twin:", "control: {tick_s: 6}\ntwin:", "7:10",
         "control.plan_ttl_s: found 5, wanted more than tick_s (6)"),
        ("twin:", "control: {token_timeout_s: 1}\ntwin:", "7:28",
         "control.token_timeout_s: found 1, wanted more than expert_timeout_s (2)"),
        ("twin:", "workload: {requests: 0}\ntwin:", "7:22",
         "workload.requests: found 0, wanted a whole number from 1 to 1000000 or null"),
        ("twin:", "policies: {selection: {name: topk, options: {k: [1]}}}\ntwin:", "7:49",
         "policies.selection.options.k: found a list of 1, wanted a number, a text, true or false"),
        ("twin:", "policies: {selection: {name: topk, options: {k: .nan}}}\ntwin:", "7:49",
         "policies.selection.options.k: found nan, wanted a number, a text, true or false"),
    ],
)  # fmt: skip
def test_place_and_words(tmp_path: Path, old: str, new: str, where: str, words: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{path}:{where}: {words}")
    assert caught.value.hint


def test_option_types_are_kept(tmp_path: Path) -> None:
    options = "{a: 1, b: 1.0, c: true, d: 'x'}"
    text = GOOD + f"policies: {{selection: {{name: m:P, options: {options}}}}}\n"
    found = load_campaign(written(tmp_path, text)).policies.selection.options
    assert [(key, type(value)) for key, value in found.items()] == [
        ("a", int), ("b", float), ("c", bool), ("d", str),
    ]  # fmt: skip


@pytest.mark.parametrize(("section", "key"), [("model", "checkpoint"), ("orbit", "elements"), ("workload", "prompts")])
def test_files_are_relative_to_the_campaign_and_exist(tmp_path: Path, section: str, key: str) -> None:
    before = "orbit:\n" if section == "orbit" else "orbit:"
    after = f"orbit:\n  {key}: my.file\n" if section == "orbit" else f"{section}: {{{key}: my.file}}\norbit:"
    path = written(tmp_path, GOOD.replace(before, after, 1))
    with pytest.raises(ConfigError, match=rf"{section}\.{key}: found 'my\.file', but there is no ") as caught:
        load_campaign(path)
    assert caught.value.message.startswith(f"{path}:{3 if section == 'orbit' else 2}:")
    (tmp_path / "my.file").touch()
    assert getattr(getattr(load_campaign(path), section), key) == str(tmp_path / "my.file")


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        (
            "satellites: [A, B]",
            "satellites: [A, B, C]",
            "3:15",
            "orbit.satellites: found 3 entries, wanted 2",
        ),
        ("    - {temperature_c: 20, charge: 0.5}\n", "", "9:5", "twin.start: found 1 entries, wanted 2"),
        (
            "twin:",
            "links: {codecs: [{between: [left, nobody], codec: int4}]}\ntwin:",
            "7:28",
            "links.codecs[0].between: found ['left', 'nobody'], wanted two of the boards",
        ),
        ("twin:", "model: {replicas: 3}\ntwin:", "7:19", "model.replicas: found 3, wanted at most 2"),
    ],
)
def test_what_only_bench_and_campaign_together_show(tmp_path: Path, old: str, new: str, where: str, words: str) -> None:
    bench_file = tmp_path / "bench.yaml"
    bench_file.write_text(TWO_BOARDS)
    bench = load_bench(bench_file)
    load_campaign(written(tmp_path, GOOD)).check_against(bench)
    path = written(tmp_path, GOOD.replace(old, new, 1))
    campaign = load_campaign(path)
    with pytest.raises(ConfigError) as caught:
        campaign.check_against(bench, path)
    assert caught.value.message.startswith(f"{path}:{where}: {words}")
    with pytest.raises(ConfigError) as without:
        campaign.check_against(bench)
    assert without.value.message.startswith(f"campaign: {words}")


@pytest.mark.parametrize("name", ["x" * 5000, "a\\0b", "~nobody-at-all/x", "/no/such/file"])
def test_impossible_file_names(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, GOOD.replace("orbit:", f'orbit:\n  elements: "{name}"', 1))
    with pytest.raises(ConfigError, match=r":3:13: orbit\.elements: (found .*, but there is no |holds the character)"):
        load_campaign(path)


def test_default_replicas_need_as_many_boards(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    bench = load_bench(default_path("bench"))
    one_board = bench.model_copy(update={"boards": bench.boards[:2]})
    load_campaign(path).check_against(one_board, path)


def test_with_selection_changes_nothing_else() -> None:
    campaign = load_campaign(default_path("campaign"))
    changed = campaign.with_selection("topk")
    assert changed.policies.selection.name == "topk"
    assert changed.policies.selection.options == {}
    back = changed.model_copy(update={"policies": campaign.policies})
    assert back == campaign
    assert isinstance(changed, Campaign)
