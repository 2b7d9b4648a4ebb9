"""A machine's devices, one file each: https://libvirt.org/formatdomain.html#devices

Those that few machines have are loaded with the first that has one. Until then only this is known of them: their tag,
their key, and what a running machine's XML changes of them. A test holds that it is as their classes say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.devices.audio import Audio as Audio
    from kvmstate.kinds.virtual_machine.devices.backend_source import Reconnect as Reconnect
    from kvmstate.kinds.virtual_machine.devices.backend_source import Source as Source
    from kvmstate.kinds.virtual_machine.devices.channel import Channel as Channel
    from kvmstate.kinds.virtual_machine.devices.console import Console as Console
    from kvmstate.kinds.virtual_machine.devices.controller import Controller as Controller
    from kvmstate.kinds.virtual_machine.devices.filesystem import Filesystem as Filesystem
    from kvmstate.kinds.virtual_machine.devices.graphics import Graphics as Graphics
    from kvmstate.kinds.virtual_machine.devices.guest_forward import GuestForward as GuestForward
    from kvmstate.kinds.virtual_machine.devices.hostdev import Hostdev as Hostdev
    from kvmstate.kinds.virtual_machine.devices.input import Input as Input
    from kvmstate.kinds.virtual_machine.devices.iommu import Iommu as Iommu
    from kvmstate.kinds.virtual_machine.devices.label import Label as Label
    from kvmstate.kinds.virtual_machine.devices.local_disk import NvmeSource as NvmeSource
    from kvmstate.kinds.virtual_machine.devices.local_disk import Reservations as Reservations
    from kvmstate.kinds.virtual_machine.devices.local_disk import Slice as Slice
    from kvmstate.kinds.virtual_machine.devices.local_disk import VhostUserSource as VhostUserSource
    from kvmstate.kinds.virtual_machine.devices.memballoon import Memballoon as Memballoon
    from kvmstate.kinds.virtual_machine.devices.memory import MemoryDevice as MemoryDevice
    from kvmstate.kinds.virtual_machine.devices.network_disk import Auth as Auth
    from kvmstate.kinds.virtual_machine.devices.network_disk import DiskEncryption as DiskEncryption
    from kvmstate.kinds.virtual_machine.devices.network_disk import Geometry as Geometry
    from kvmstate.kinds.virtual_machine.devices.network_disk import Iotune as Iotune
    from kvmstate.kinds.virtual_machine.devices.network_disk import NetworkSource as NetworkSource
    from kvmstate.kinds.virtual_machine.devices.nic import Bandwidth as Bandwidth
    from kvmstate.kinds.virtual_machine.devices.nic import GuestIp as GuestIp
    from kvmstate.kinds.virtual_machine.devices.nic import GuestRoute as GuestRoute
    from kvmstate.kinds.virtual_machine.devices.nic import NicDriver as NicDriver
    from kvmstate.kinds.virtual_machine.devices.nic import PortForward as PortForward
    from kvmstate.kinds.virtual_machine.devices.nic import Rom as Rom
    from kvmstate.kinds.virtual_machine.devices.nic import Teaming as Teaming
    from kvmstate.kinds.virtual_machine.devices.nic import VirtualPort as VirtualPort
    from kvmstate.kinds.virtual_machine.devices.nic import Vlan as Vlan
    from kvmstate.kinds.virtual_machine.devices.panic import Panic as Panic
    from kvmstate.kinds.virtual_machine.devices.parallel import Parallel as Parallel
    from kvmstate.kinds.virtual_machine.devices.redirdev import Redirdev as Redirdev
    from kvmstate.kinds.virtual_machine.devices.rng import Rng as Rng
    from kvmstate.kinds.virtual_machine.devices.shmem import Shmem as Shmem
    from kvmstate.kinds.virtual_machine.devices.small import Crypto as Crypto
    from kvmstate.kinds.virtual_machine.devices.small import Hub as Hub
    from kvmstate.kinds.virtual_machine.devices.small import Lease as Lease
    from kvmstate.kinds.virtual_machine.devices.small import Pstore as Pstore
    from kvmstate.kinds.virtual_machine.devices.small import RedirFilter as RedirFilter
    from kvmstate.kinds.virtual_machine.devices.smartcard import Smartcard as Smartcard
    from kvmstate.kinds.virtual_machine.devices.sound import Sound as Sound
    from kvmstate.kinds.virtual_machine.devices.tpm import Tpm as Tpm
    from kvmstate.kinds.virtual_machine.devices.video import Video as Video
    from kvmstate.kinds.virtual_machine.devices.virtio import Thread as Thread
    from kvmstate.kinds.virtual_machine.devices.virtio import Virtio as Virtio
    from kvmstate.kinds.virtual_machine.devices.vsock import Vsock as Vsock
    from kvmstate.kinds.virtual_machine.devices.watchdog import Watchdog as Watchdog
else:
    from kvmstate.xmlbind import later

    _VOLATILE = {
        "Channel": (
            "self::*[@type='unix']/source[not(@path) or contains(@path, '/libvirt/qemu/channel/')]",
            "target/@state",
        ),
        "Graphics": (
            *("self::*[@autoport='yes']/@port", "self::*[@autoport='yes']/@tlsPort", "@websocket"),
            *("@socket[contains(., '/domain-')]", "listen/@socket[contains(., '/domain-')]"),
        ),
        "Vsock": ("cid[@auto='yes']/@address",),
    }
    for _class, _module, _tag, _key in (
        ("Channel", "channel", "channel", "name"),
        ("Graphics", "graphics", "graphics", "type"),
        ("Rng", "rng", "rng", ""),
        ("Tpm", "tpm", "tpm", "name"),
        ("Vsock", "vsock", "vsock", "name"),
        ("Watchdog", "watchdog", "watchdog", "name"),
        ("Audio", "audio", "audio", "id"),
        ("Console", "console", "console", ""),
        ("Controller", "controller", "controller", "name"),
        ("Crypto", "small", "crypto", ""),
        ("Filesystem", "filesystem", "filesystem", "target"),
        ("GuestForward", "guest_forward", "channel", "to"),
        ("Hostdev", "hostdev", "hostdev", ""),
        ("Hub", "small", "hub", ""),
        ("Input", "input", "input", ""),
        ("Iommu", "iommu", "iommu", "name"),
        ("Lease", "small", "lease", "id"),
        ("Memballoon", "memballoon", "memballoon", "name"),
        ("MemoryDevice", "memory", "memory", ""),
        ("Panic", "panic", "panic", ""),
        ("Parallel", "parallel", "parallel", "port"),
        ("Pstore", "small", "pstore", "name"),
        ("Redirdev", "redirdev", "redirdev", ""),
        ("RedirFilter", "small", "redirfilter", "name"),
        ("Shmem", "shmem", "shmem", "name"),
        ("Smartcard", "smartcard", "smartcard", ""),
        ("Sound", "sound", "sound", ""),
        ("Video", "video", "video", ""),
    ):
        globals()[_class] = later(
            f"{__name__}.{_module}", _class, tag=_tag, key=_key, volatile=_VOLATILE.get(_class, ())
        )
    # what devices hold
    for _module, _classes in {
        "nic": (
            *("Bandwidth", "GuestIp", "GuestRoute", "NicDriver"),
            *("PortForward", "Rom", "Teaming", "VirtualPort", "Vlan"),
        ),
        "network_disk": ("Auth", "DiskEncryption", "Geometry", "Iotune", "NetworkSource"),
        "local_disk": ("NvmeSource", "Reservations", "Slice", "VhostUserSource"),
        "label": ("Label",),
        "backend_source": ("Reconnect", "Source"),
        "virtio": ("Thread", "Virtio"),
    }.items():
        for _class in _classes:
            globals()[_class] = later(f"{__name__}.{_module}", _class)
