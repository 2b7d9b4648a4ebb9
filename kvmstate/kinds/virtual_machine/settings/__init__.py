"""What machines say besides their devices, by the chapters of https://libvirt.org/formatdomain.html.

Few machines have most of it: a chapter is loaded with the first that has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.settings.boot import AcpiTable as AcpiTable
    from kvmstate.kinds.virtual_machine.settings.boot import Bios as Bios
    from kvmstate.kinds.virtual_machine.settings.boot import BootMenu as BootMenu
    from kvmstate.kinds.virtual_machine.settings.boot import FirmwareFeature as FirmwareFeature
    from kvmstate.kinds.virtual_machine.settings.boot import Loader as Loader
    from kvmstate.kinds.virtual_machine.settings.boot import Nvram as Nvram
    from kvmstate.kinds.virtual_machine.settings.clock import Clock as Clock
    from kvmstate.kinds.virtual_machine.settings.cloud_init import CloudInit as CloudInit
    from kvmstate.kinds.virtual_machine.settings.cpu import Cpu as Cpu
    from kvmstate.kinds.virtual_machine.settings.features import Features as Features
    from kvmstate.kinds.virtual_machine.settings.host import HostBoot as HostBoot
    from kvmstate.kinds.virtual_machine.settings.hyperv import Hyperv as Hyperv
    from kvmstate.kinds.virtual_machine.settings.hyperv import Kvm as Kvm
    from kvmstate.kinds.virtual_machine.settings.idmap import IdMaps as IdMaps
    from kvmstate.kinds.virtual_machine.settings.ignition import Combustion as Combustion
    from kvmstate.kinds.virtual_machine.settings.ignition import Ignition as Ignition
    from kvmstate.kinds.virtual_machine.settings.install import Install as Install
    from kvmstate.kinds.virtual_machine.settings.memory import MemoryBacking as MemoryBacking
    from kvmstate.kinds.virtual_machine.settings.memory import MemoryHotplug as MemoryHotplug
    from kvmstate.kinds.virtual_machine.settings.numa import Numa as Numa
    from kvmstate.kinds.virtual_machine.settings.power import Power as Power
    from kvmstate.kinds.virtual_machine.settings.qemu import Qemu as Qemu
    from kvmstate.kinds.virtual_machine.settings.security import KeyWrap as KeyWrap
    from kvmstate.kinds.virtual_machine.settings.security import LaunchSecurity as LaunchSecurity
    from kvmstate.kinds.virtual_machine.settings.security import SecurityLabel as SecurityLabel
    from kvmstate.kinds.virtual_machine.settings.sysinfo import Sysinfo as Sysinfo
    from kvmstate.kinds.virtual_machine.settings.tuning import Blkiotune as Blkiotune
    from kvmstate.kinds.virtual_machine.settings.tuning import Cputune as Cputune
    from kvmstate.kinds.virtual_machine.settings.tuning import DefaultIoThread as DefaultIoThread
    from kvmstate.kinds.virtual_machine.settings.tuning import IoThread as IoThread
    from kvmstate.kinds.virtual_machine.settings.tuning import Memtune as Memtune
    from kvmstate.kinds.virtual_machine.settings.tuning import Numatune as Numatune
    from kvmstate.kinds.virtual_machine.settings.tuning import Perf as Perf
    from kvmstate.kinds.virtual_machine.settings.tuning import Resource as Resource
    from kvmstate.kinds.virtual_machine.settings.tuning import ThrottleGroup as ThrottleGroup
    from kvmstate.kinds.virtual_machine.settings.tuning import Vcpu as Vcpu
else:
    from kvmstate.xmlbind import later

    for _module, _names in {
        "boot": ("AcpiTable", "Bios", "BootMenu", "FirmwareFeature", "Loader", "Nvram"),
        "clock": ("Clock",),
        "cloud_init": ("CloudInit",),
        "cpu": ("Cpu",),
        "features": ("Features",),
        "host": ("HostBoot",),
        "hyperv": ("Hyperv", "Kvm"),
        "idmap": ("IdMaps",),
        "ignition": ("Combustion", "Ignition"),
        "install": ("Install",),
        "memory": ("MemoryBacking", "MemoryHotplug"),
        "numa": ("Numa",),
        "power": ("Power",),
        "qemu": ("Qemu",),
        "security": ("KeyWrap", "LaunchSecurity", "SecurityLabel"),
        "sysinfo": ("Sysinfo",),
        "tuning": (
            "Blkiotune",
            "Cputune",
            "DefaultIoThread",
            "IoThread",
            "Memtune",
            "Numatune",
            "Perf",
            "Resource",
            "ThrottleGroup",
            "Vcpu",
        ),
    }.items():
        for _name in _names:
            globals()[_name] = later(f"{__name__}.{_module}", _name)
