"""Templates, their versions, and the machines that are cloned from them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, Run, idle, kvmstate, pool, resource, until
from ssh_server import OverSsh, Server
from test_renames import moved
from test_uploads import MIB

from kvmstate.host import sight
from kvmstate.kinds import BY_NAME
from kvmstate.kinds.volume import guestfs

pytestmark = pytest.mark.real

IMAGE = os.urandom(MIB) + bytes(3 * MIB)
DEFAULTS: dict[str, Any] = {"memory": "32MiB", "cpus": 2, "cloudInit": {"packages": ["nginx"]}}


def template(project: Project, **spec: Any) -> dict[str, Any]:
    (project.folder / "image.raw").write_bytes(IMAGE)
    return resource(
        "Template", "tiny", **{"pool": "images", "source": {"file": "image.raw"}, "defaults": DEFAULTS, **spec}
    )


def clone(name: str, **spec: Any) -> dict[str, Any]:
    lifecycle = {"restart": "now", "stop": {"timeout": "1s", "onTimeout": "destroy"}}
    return resource("VirtualMachine", name, lifecycle, **{"template": "tiny", **spec})


def templates(project: Project, *words: str) -> Run:
    """`kvmstate template`"""
    return kvmstate("template", *words, str(project.folder))


def base(project: Project, volume: str) -> str:
    """The name of the file that a volume lies on."""
    info = subprocess.check_output(["qemu-img", "info", "-U", "--output=json", project.path(f"images/{volume}")])
    return os.path.basename(json.loads(info).get("backing-filename", ""))


def test_what_a_build_lacks_is_told_by_the_plan(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    project.write(pool(), template(project, build={}), clone("web-1"))
    said = project.plan().out
    assert "blocked: there is no virt-sysprep and no virt-sparsify and no qemu-img here" in said
    assert project.apply().code == 1
    assert not project.path("images/tiny-v1.qcow2").exists()


def test_a_volume_of_a_template_that_nobody_declares_is_told_at_its_place(project: Project) -> None:
    volume = resource("Volume", "alone.qcow2", pool="images", template="nope")
    for others, hint in (((), "declare one: kind: Template"), ((template(project),), "templates are tiny")):
        project.write(pool(), *others, volume)
        refused = project.plan()
        assert refused.code == 1
        assert "there is no template nope" in refused.err
        assert f"hint: {hint}" in refused.err


def test_a_running_machine_is_copied_as_it_is_at_one_moment(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    image = template(project)
    web = idle("web", state="running", disks=[{"name": "root", "create": {"pool": "images", "template": "tiny"}}])
    project.converge(pool(), image, web)
    running = connection.lookupByName("web").ID()
    of = {"volume": "images/web-root.qcow2"}
    copy = resource("Volume", "copy", pool="images", format="raw", content=of)
    project.write(pool(), image, web, copy)
    assert "or say `live: true` beside the volume" in project.plan().out
    copy["spec"]["content"] = {**of, "live": True}
    of_it = resource("Template", "of-web", pool="images", source={"machine": "web", "disk": "data"})
    project.write(pool(), image, web, copy, of_it)
    assert "virtual machine web is not there, or has no disk data that is a volume" in project.plan().err
    of_it["spec"]["source"] = {"machine": "web"}
    project.converge(pool(), image, web, copy, of_it)
    assert project.path("images/copy").read_bytes() == IMAGE
    assert base(project, "of-web-v1.qcow2") == ""
    assert listed(project)[0] == ("of-web", 1, "in_force", 0)
    assert connection.lookupByName("web").ID() == running
    assert connection.lookupByName("web").jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE


def test_clone_writes_a_manifest_of_a_copy(project: Project, connection: libvirt.virConnect) -> None:
    web = clone("web", interfaces=[{"name": "lan", "mac": "52:54:00:00:00:01", "bridge": "none0"}], state="stopped")
    project.converge(pool(), template(project), web)
    project.path("images/web-root.qcow2").stat()
    said = kvmstate("clone", "web", "web-b", str(project.folder), "--no-sysprep", "-o", str(project.folder / "b.yaml"))
    assert said.code == 0, said
    written = (project.folder / "b.yaml").read_text()
    assert "52:54:00:00:00:01" not in written
    assert kvmstate("clone", "web", "web-b", str(project.folder), "-o", str(project.folder / "b.yaml")).code == 1
    (project.folder / "kvmstate.yaml").write_text(
        (project.folder / "kvmstate.yaml").read_text().replace("[manifests.yaml]", "[manifests.yaml, b.yaml]")
    )
    project.converge()
    assert base(project, "web-b-root.qcow2") == ""
    one, two = (connection.lookupByName(name) for name in ("web", "web-b"))
    assert one.UUIDString() != two.UUIDString()
    assert one.maxMemory() == two.maxMemory()
    assert "52:54:00:00:00:01" not in two.XMLDesc()


def test_explain_tells_where_each_value_comes_from(project: Project) -> None:
    nic = {"bridge": "none0", "securityGroups": []}
    web = clone("web-1", state="stopped", disks=[{"name": "root", "create": {"capacity": "1GiB"}}], interfaces=[nic])

    def sources() -> dict[str, dict[str, tuple[Any, ...]]]:
        told = json.loads(kvmstate("explain", "--resolved", "domain/web-1", str(project.folder), "--json").out)
        return {
            each["address"]: {
                ".".join(map(str, v["path"])): (v["value"], v["source"], v["line"], v["kept"]) for v in each["values"]
            }
            for each in told["resources"]
        }

    project.write(pool(), template(project), web)
    lines = [line.strip() for line in (project.folder / "manifests.yaml").read_text().split("\n")]
    machine, root = (sources()[each] for each in ("domain/web-1", "volume/images/web-1-root.qcow2"))
    assert "machine" not in machine
    assert machine["cpus"] == (2, "inherited", lines.index("cpus: 2") + 1, False)
    assert machine["state"] == ("stopped", "manifest", lines.index("state: stopped") + 1, False)
    assert machine["maxCpus"] == (2, "default", 0, False)
    # an item that has no name in the manifest
    assert machine["interfaces.none0.bridge"] == ("none0", "manifest", lines.index("- bridge: none0") + 1, False)
    assert machine["interfaces.none0.filterref.filter"][:2] == ("web-1-none0-groups", "derived")
    assert root["capacity"] == (1 << 30, "manifest", lines.index("capacity: 1GiB") + 1, False)
    assert root["template"][:2] == ("tiny@1", "derived")

    project.converge()
    project.write(pool(), template(project, defaults={**DEFAULTS, "cpus": 3}), web)
    machine = sources()["domain/web-1"]
    assert machine["machine"][1] == "libvirt"
    assert machine["cpus"] == (2, "inherited", 0, True)
    said = kvmstate("explain", "--resolved", "domain/web-1", str(project.folder)).out
    assert "# template/tiny, as it was then\n" in said
    assert "(sensitive value)" in said
    assert kvmstate("explain", "--resolved", "domain/web-2", str(project.folder)).code == 1
    assert kvmstate("explain", "VirtualMachine", str(project.folder)).code == 1


def test_machines_are_cloned_and_stay_on_their_version(project: Project, connection: libvirt.virConnect) -> None:
    machines = [clone("web-1"), clone("web-2", clone="full", cpus=1)]
    project.converge(pool(), template(project), *machines)
    assert connection.lookupByName("web-1").maxVcpus() == 2
    assert connection.lookupByName("web-2").maxVcpus() == 1
    assert [base(project, f"web-{n}-root.qcow2") for n in (1, 2)] == ["tiny-v1.qcow2", ""]
    running = {d.name(): d.ID() for d in connection.listAllDomains()}

    # another version, for new machines alone: also of its defaults
    edited = template(
        project, version=2, defaults={**DEFAULTS, "memory": "48MiB", "tpm": {}, "cloudInit": {"packages": ["apache2"]}}
    )
    project.write(pool(), edited, *machines)
    assert project.todo() == {"create": 1}, project.plan()
    assert (
        "template tiny: @1 (kept) has 1 linked and 1 full clones, @2 (to be built) has no clones" in project.plan().out
    )
    assert templates(project, "build", "--auto-approve").code == 0
    assert project.todo() == {}
    project.converge(pool(), edited, *machines, clone("web-3", tpm=None))
    assert {d.name(): d.ID() for d in connection.listAllDomains() if d.name() != "web-3"} == running
    assert [base(project, f"web-{n}-root.qcow2") for n in (1, 2, 3)] == ["tiny-v1.qcow2", "", "tiny-v2.qcow2"]
    assert connection.lookupByName("web-3").maxMemory() == 48 << 10

    # what is the machine's own is applied all the same
    project.converge(pool(), edited, clone("web-1", cpus=1), machines[1])
    assert connection.lookupByName("web-1").maxVcpus() == 1
    assert connection.lookupByName("web-1").maxMemory() == 32 << 10
    project.converge(pool(), edited, clone("web-1"), machines[1])
    assert connection.lookupByName("web-1").maxVcpus() == 2

    listed = json.loads(templates(project, "list", "--json").out)["versions"]
    assert [(v["version"], v["state"], len(v["linked"]), len(v["full"])) for v in listed] == [
        (1, "kept", 1, 1),
        (2, "in_force", 1, 0),
    ]
    assert "└─ @2 (in force)\n   └─ volume/images/web-3-root.qcow2 (linked)" in templates(project, "tree").out
    assert "No changes" in templates(project, "prune", "--auto-approve").out

    # an old version goes when nothing lies on it
    kept = clone("web-1", disks=[{"name": "root", "create": {"lifecycle": {"deletion": "delete"}}}])
    project.converge(pool(), edited, kept, machines[1], options=("--prune",))
    assert project.path("images/tiny-v1.qcow2").exists()
    project.write(pool(), edited, machines[1])
    assert "tiny@1 is no longer in force: --prune deletes it, unless clones lie on it" in project.plan().out
    assert project.apply("--prune", "--max-delete-share", "100%", "--exclude", "volume/images/tiny-v1.qcow2").code == 0
    assert "1 destroyed" in templates(project, "prune", "--auto-approve").out
    project.converge(options=("--prune",))
    assert not project.path("images/tiny-v1.qcow2").exists()
    assert base(project, "web-3-root.qcow2") == "tiny-v2.qcow2"


def listed(project: Project) -> list[tuple[str, int, str, int]]:
    versions = json.loads(templates(project, "list", "--json").out)["versions"]
    return [(v["template"], v["version"], v["state"], len(v["linked"])) for v in versions]


def test_a_template_gets_another_name(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), template(project), clone("web-1"))
    project.converge(pool(), template(project, version=2), clone("web-1"), clone("web-2", template="tiny@2"))
    running = {each.name(): each.ID() for each in connection.listAllDomains()}
    new = template(project, version=2)
    new["metadata"]["name"] = "small"
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write("moved: [{from: template/tiny, to: template/small}]\n")
    # afterwards the record says it, and the line may go
    project.converge(
        pool(), new, clone("web-1", template="small"), clone("web-2", template="small@2"), options=("--prune",)
    )
    assert {each.name(): each.ID() for each in connection.listAllDomains()} == running
    assert listed(project) == [("small", 1, "kept", 1), ("small", 2, "in_force", 1)]
    assert [base(project, f"web-{n}-root.qcow2") for n in (1, 2)] == ["tiny-v1.qcow2", "tiny-v2.qcow2"]
    new["spec"]["version"] = 3
    project.converge(pool(), new, clone("web-1", template="small"), clone("web-2", template="small"))
    assert project.path("images/small-v3.qcow2").exists()


def test_a_lost_record_does_not_take_an_old_version_for_the_one_in_force(
    project: Project, connection: libvirt.virConnect
) -> None:
    plain = {"defaults": {"memory": "32MiB"}}
    project.converge(pool(), template(project, **plain), clone("web-1"))
    machines = [clone("web-1"), clone("web-2")]
    project.converge(pool(), template(project, version=2, **plain), *machines)
    for secret in connection.listAllSecrets():
        secret.undefine()
    assert "volume/images/tiny-v2.qcow2" in project.plan().out
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    assert project.apply().code == 0
    assert project.todo() == {}, project.plan()
    assert listed(project) == [("tiny", 1, "kept", 1), ("tiny", 2, "in_force", 1)]


def test_a_volume_of_somebody_else_is_not_the_next_version(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), template(project))
    other = (
        "<volume><name>tiny-v2.qcow2</name><capacity>4096</capacity><target><format type='qcow2'/></target></volume>"
    )
    connection.storagePoolLookupByName("images").createXML(other)
    project.converge(pool(), template(project, version=2))
    assert project.path("images/tiny-v3.qcow2").exists()


def test_a_recipe_that_may_hold_secrets_is_not_told_by_the_record(
    project: Project, connection: libvirt.virConnect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("virt-sysprep", "virt-customize"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    build = {"runCommands": ["echo secret | passwd --stdin root"], "compress": False}
    image = template(project, build=build)
    project.converge(pool(), image)
    recipe = BY_NAME["Template"].adapter.validate_python(image["spec"]).recipe()
    record = b"".join(secret.value() for secret in connection.listAllSecrets())
    assert recipe.startswith("private-")
    assert recipe.removeprefix("private-").encode() not in record
    build["runCommands"] = ["true"]
    project.converge(pool(), template(project, build=build))
    assert project.path("images/tiny-v2.qcow2").exists()


def test_a_domain_of_a_template_is_there_to_be_found_and_does_not_run(
    project: Project, connection: libvirt.virConnect
) -> None:
    defaults = {**DEFAULTS, "disks": [{"name": "root", "bus": "scsi", "create": {"capacity": "1GiB"}}]}
    image = template(project, keepDomain=True, defaults=defaults)
    project.converge(pool(), image, clone("web-1"))
    kept = connection.lookupByName("tiny")
    assert not kept.isActive()
    assert kept.maxMemory() == 32 << 10
    assert "<readonly/>" in kept.XMLDesc()
    assert "cloud-init" not in kept.XMLDesc()
    told = json.loads(templates(project, "list", "--json").out)["versions"]
    assert [each["domain"] for each in told] == ["domain/tiny"]

    # it is nobody's machine
    at = ("-c", project.host.uri)
    assert "it is kept of tiny@1 to be found, and is never started" in kvmstate("vm", "start", "tiny", *at).err
    other = project.folder / "other"
    assert kvmstate("import", "domain/tiny", "--output", str(other), "--project", "other", *at).code == 1
    project.write(pool(), image, clone("web-1"), clone("tiny"))
    assert "domain/tiny is the domain that template/tiny keeps" in project.plan().err

    # started by hand, it is reported, and switched off where that is allowed
    project.write(pool(), image, clone("web-1"))
    kept.create()
    assert project.todo() == {}
    assert "blocked: it runs, and is kept of tiny@1 to be found" in project.plan().out
    assert project.syncs()["domain/tiny"] != "InSync"
    assert project.apply().code == 1
    assert kept.isActive()
    listed = kvmstate("vm", "list", "tiny", *at).out
    assert "it is kept of tiny@1 to be found: `lifecycle.restart: now` lets an apply power it off" in listed
    image["lifecycle"] = {"restart": "now"}
    project.converge(pool(), image, clone("web-1"))
    assert not kept.isActive()

    # it has the disks of the version in force, gets another name with the template, and goes with it
    image["spec"]["version"] = 2
    project.converge(pool(), image, clone("web-1"))
    assert "tiny-v2.qcow2" in kept.XMLDesc()
    image["metadata"]["name"] = "small"
    moved(project, ("template/tiny", "template/small"))
    project.write(pool(), image, clone("web-1", template="small"))
    assert "domain/tiny has moved to domain/small" in project.plan("--prune").out
    file = str(project.folder / "saved")
    assert project.plan("--prune", "--out", file).code == 2
    assert kvmstate("apply", file, str(project.folder)).code == 0
    project.converge(options=("--prune",))
    assert connection.lookupByUUIDString(kept.UUIDString()).name() == "small"
    told = json.loads(templates(project, "list", "--json").out)["versions"]
    assert [each["domain"] for each in told] == [None, "domain/small"]
    del image["spec"]["keepDomain"], image["lifecycle"]
    project.write(pool(), image, clone("web-1", template="small"))
    assert project.todo("--prune") == {"delete": 1}, project.plan("--prune")
    project.converge(options=("--prune",))
    assert {each.name() for each in connection.listAllDomains()} == {"web-1"}


def test_an_image_is_built_on_a_host_that_has_the_tools(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bin_ = Server(project.host, tmp_path), tmp_path / "bin"
    bin_.mkdir()
    config = tmp_path / "sshd_config"
    # the first line of that word counts
    config.write_text(config.read_text().replace("SetEnv ", f"SetEnv PATH={bin_}:/usr/bin:/bin "))
    # whatever this machine, which is the host, has
    installed = shutil.which("virt-sysprep")
    monkeypatch.setattr(guestfs.shutil, "which", lambda name: None)
    monkeypatch.setattr(sight, "_ANSWER_SECONDS", 300)
    project = Project(OverSsh(**vars(project.host), reached=server.uri()), tmp_path / "far")
    (project.folder / "note").write_text("from here")
    build = {"compress": False, "operations": ["machine-id"], "files": [{"path": "/etc/note", "file": "note"}]}
    of_file = template(project, build=build, format="raw")
    of_volume = {**template(project, build=build, format="raw", source={"volume": "images/tiny-v1"})}
    of_volume["metadata"] = {"name": "other"}
    project.write(pool(), of_file, of_volume)
    lacks = "there is no virt-sysprep here, and no virt-sysprep on the host, where the image is to be built"
    assert installed or lacks in project.plan().out

    # it writes what it was told to upload over the image's first bytes
    (bin_ / "virt-sysprep").write_text(
        "#!/bin/sh\n"
        "[ $1 = --format ] && image=$4 && eval commands=\\$$#\n"
        'echo "[   1.0] Customizing ${image##*/}"\n'
        "dd if=\"$(sed -n 's/^upload \\(.*\\):.*/\\1/p' $commands)\" of=$image conv=notrunc 2>/dev/null\n"
    )
    (bin_ / "virt-sysprep").chmod(0o755)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project.converge(pool(), of_file, of_volume)
    for volume in ("tiny-v1", "other-v1"):
        assert project.path(f"images/{volume}").read_bytes() == b"from here" + IMAGE[9:]
        log = tmp_path / "state" / "kvmstate" / "builds" / f"images_{volume}.log"
        assert f"[   1.0] Customizing {volume}\n" in log.read_text()

    # what is interrupted ends there as well
    (bin_ / "virt-sysprep").write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n")
    of_file["spec"]["version"] = 2
    project.write(pool(), of_file, of_volume)
    slow = "from kvmstate.host import sight; sight._ANSWER_SECONDS = 300"
    process = project.start_apply(first=f"{slow}; import shutil; shutil.which = lambda name: None")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it builds")
    process.kill()
    process.wait()
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")

    # what fails is told, and begun again
    (bin_ / "virt-sysprep").write_text(
        "#!/bin/sh\necho 'virt-sysprep: error: no operating systems were found'\nexit 1\n"
    )
    assert "virt-sysprep: no operating systems were found" in project.apply().err
    assert not [*Path("/var/tmp").glob(f"kvmstate-{16 * '[0-9a-f]'}")]
