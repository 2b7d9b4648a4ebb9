"""The id is written beside the project's name, and all else stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.errors import UsageError
from kvmstate.manifest import load_project
from kvmstate.manifest.edit import add_id, with_id

ID = "5e0c9a0e-94f4-4a63-9f0a-3d6d6f0f3f11"


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("project: shop\n", f"project: shop\nid: {ID}\n"),
        ("project: shop", f"project: shop\nid: {ID}\n"),
        (
            "# ours\n\nproject: shop   # the shop\n# where\nconnection: test:///default\n",
            f"# ours\n\nproject: shop   # the shop\nid: {ID}\n# where\nconnection: test:///default\n",
        ),
        ("---\nprune: true\nproject: 'shop'\n...\n", f"---\nprune: true\nproject: 'shop'\nid: {ID}\n...\n"),
        ("project: shop\r\nprune: true\r\n", f"project: shop\r\nid: {ID}\r\nprune: true\r\n"),
        ("project:\n  shop\nprune: true\n", f"project:\n  shop\nid: {ID}\nprune: true\n"),
        ("  project: shop\n  prune: true\n", f"  project: shop\n  id: {ID}\n  prune: true\n"),
        ("project: >-\n  shop\nprune: true\n", f"id: {ID}\nproject: >-\n  shop\nprune: true\n"),
        ("{prune: true, project: shop}\n", f"{{prune: true, id: {ID}, project: shop}}\n"),
        ("{project: shop} # ours\n", f"{{id: {ID}, project: shop}} # ours\n"),
        ("\ufeffproject: shop\n", f"\ufeffproject: shop\nid: {ID}\n"),
        ("a: [\n", None),
        ("prune: true\n", None),
        ("- project\n", None),
    ],
)
def test_where_it_is_written(text: str, edited: str | None, tmp_path: Path) -> None:
    assert with_id(text, ID) == edited
    file = tmp_path / "kvmstate.yaml"
    file.write_bytes(text.encode())
    if edited:
        add_id(file, ID)
        assert file.read_bytes() == edited.encode()
        assert (load_project(tmp_path).name, load_project(tmp_path).id) == ("shop", ID)
    else:
        with pytest.raises(UsageError) as error:
            add_id(file, ID)
        assert f"`id: {ID}`" in error.value.hint
        assert file.read_bytes() == text.encode()


def test_links_and_modes_stay(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.write_text("project: shop\n")
    real.chmod(0o640)
    link = tmp_path / "kvmstate.yaml"
    link.symlink_to(real)
    add_id(link, ID)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert load_project(tmp_path).id == ID
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "kvmstate.yaml"]
