"""The cluster was one host with the site, until prepare.yml had it grow under load (files/grow-under-load)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster import lost


def test_a_site_grew_while_visitors_came():
    met = json.loads((Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "grown.json").read_text(encoding="utf-8"))
    print(f"{met['asked']} asked, failed: {met['failures']}, longest silence {met['longest']:.1f} s")
    assert len(met["failures"]) <= met["asked"] // 1000
    assert met["acknowledged"] and lost(met["acknowledged"]) == set()
