"""What a verb of the Makefile hands on to a shell is a word to it."""

import subprocess

import pytest
from loading import ROOT


@pytest.mark.parametrize(
    ("verb", "name"),
    [("deploy", "REF"), ("rollback", "RELEASE"), ("maintenance", "STATE"), ("secrets", "SECRET")],
)
@pytest.mark.parametrize("value", ["v1; touch {place}", "v1`touch {place}`", "a b", "v1|tee", "'", "*"])
def test_what_is_no_word_is_refused(verb, name, value, tmp_path):
    place = tmp_path / "done"
    done = subprocess.run(
        ["make", verb, f"{name}={value.format(place=place)}", "ENV=none"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{name}: may have letters, digits" in done.stderr
    assert "inventories/none" not in done.stdout + done.stderr
    assert not place.exists()
