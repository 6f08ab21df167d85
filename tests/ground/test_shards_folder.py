"""Where a run's shards are built: never into the folder of another model's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ground_controller.preparation import prepare, shards_folder
from hil_config.schema.load import default_path, load_bench, load_campaign
from models.locate import reference_checkpoint


def test_checkpoints_of_one_name_keep_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = tmp_path / reference_checkpoint().name
    shutil.copytree(reference_checkpoint(), own)
    bench, campaign = load_bench(default_path("bench")), load_campaign(default_path("campaign"))
    shipped = prepare(bench, campaign).shards
    before = shipped.stat().st_ino
    model = campaign.model.model_copy(update={"checkpoint": str(own)})
    mine = prepare(bench, campaign.model_copy(update={"model": model})).shards
    assert mine != shipped
    assert shipped.stat().st_ino == before, "a run may be served from it"
    link = tmp_path / "link"
    link.symlink_to(own)
    assert shards_folder(link, "int8") == mine
