"""tools/ is no package that is installed."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Logs and guards' files go here."""
    monkeypatch.setenv("VIT_KERAS_CACHE", str(tmp_path / "cache"))
