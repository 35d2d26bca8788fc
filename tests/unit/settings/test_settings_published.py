"""What is kept is what is recalled, whole or not at all."""

from pathlib import Path

import pytest
from support.disk_watch import DiskWatch

from router.errors import SluiceError
from router.settings.loader import load
from router.settings.published import DIRECTORY, keep, recall
from router.settings.schema import Settings

SAMPLE = Path(__file__).resolve().parents[3] / "config" / "sluice.yaml"


@pytest.fixture
def sample() -> Settings:
    return load(SAMPLE)


def test_round_trip_is_equal(sample: Settings, tmp_path: Path) -> None:
    path = keep(sample, tmp_path)
    assert recall(tmp_path, sample.fingerprint) == sample
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_kept_is_durable(sample: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / DIRECTORY).mkdir()
    watch = DiskWatch(tmp_path, monkeypatch)
    keep(sample, tmp_path)
    watch.durable()


def test_damage_and_absence_are_told(sample: Settings, tmp_path: Path) -> None:
    with pytest.raises(SluiceError, match="is not here"):
        recall(tmp_path, "0" * 64)
    path = keep(sample, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SluiceError, match="cannot be read"):
        recall(tmp_path, sample.fingerprint)


def test_a_file_under_another_name_is_not_believed(sample: Settings, tmp_path: Path) -> None:
    path = keep(sample, tmp_path)
    path.rename(path.with_name("f" * 64 + ".json"))
    with pytest.raises(SluiceError, match="another one"):
        recall(tmp_path, "f" * 64)


def test_only_the_last_few_are_kept(sample: Settings, tmp_path: Path) -> None:
    for number in range(9):
        keep(sample.model_copy(update={"fingerprint": f"{number:064}"}), tmp_path)
    left = sorted(path.stem for path in (tmp_path / DIRECTORY).iterdir())
    assert f"{8:064}" in left
    assert len(left) == 5


def test_the_one_in_force_outlives_any_number_of_reloads_that_fail(sample: Settings, tmp_path: Path) -> None:
    keep(sample, tmp_path)
    for number in range(9):
        keep(sample.model_copy(update={"fingerprint": f"{number:064}"}), tmp_path, sample.fingerprint)
    assert recall(tmp_path, sample.fingerprint) == sample
