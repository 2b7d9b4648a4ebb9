"""What virt-sysprep is told of a build, and what makes another one."""

from __future__ import annotations

from pathlib import Path

from kvmstate.kind.build import Build


def test_what_the_tools_are_told(tmp_path: Path) -> None:
    build = Build.model_validate(
        {
            "packages": ["nginx", "curl"],
            "users": [
                {"name": "ops", "groups": ["adm"], "sudo": True, "sshAuthorizedKeys": ["ssh-ed25519 AAAA\n ops"]}
            ],
            "files": [{"path": "/etc/motd", "content": "hello\n", "mode": "644"}],
            "runCommands": ["true\nfalse"],
            "firstBoot": ["#!/bin/bash\necho once\n"],
        }
    )
    lines = [line.replace(str(tmp_path), "DIR") for line in build.commands(tmp_path, tmp_path)]
    assert lines == [
        "install nginx,curl",
        "run-command id ops >/dev/null 2>&1 || useradd -m -s /bin/bash -G adm ops",
        "mkdir /etc/sudoers.d",
        "write /etc/sudoers.d/90-ops:ops ALL=(ALL) NOPASSWD:ALL",
        "chmod 0440:/etc/sudoers.d/90-ops",
        "ssh-inject ops:string:ssh-ed25519 AAAA ops",
        "mkdir /etc",
        "upload DIR/file-0:/etc/motd",
        "chmod 0644:/etc/motd",
        "run DIR/script-1",
        "firstboot DIR/script-2",
        "truncate /etc/machine-id",
    ]
    assert (tmp_path / "file-0").read_text() == "hello\n"
    assert (tmp_path / "script-1").read_text() == "#!/bin/sh\ntrue\nfalse\n"
    assert (tmp_path / "script-2").read_text() == "#!/bin/bash\necho once\n"
    kept = Build.model_validate({"operations": ["logfiles"]})
    assert kept.commands(tmp_path, tmp_path) == []


def test_another_local_file_is_another_build(tmp_path: Path) -> None:
    file = tmp_path / "motd"
    recipes = []
    for text in ("one", "two", "one"):
        file.write_text(text)
        recipes.append(Build.model_validate({"files": [{"path": "/etc/motd", "file": str(file)}]}).recipe())
    assert recipes[0] == recipes[2] != recipes[1]
