"""Features of the hypervisor: https://libvirt.org/formatdomain.html#hypervisor-features"""

from typing import Any, Literal

from kvmstate.kinds.virtual_machine.settings import Hyperv, Kvm
from kvmstate.kinds.virtual_machine.settings.switches import switch
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import ON_OFF, present, same_flag, size


def flag(tag: str, doc: str = "") -> Any:
    """A feature that is on by being there."""
    return xml(".", present(tag), same=same_flag, doc=doc)


class Smm(Section):
    """System management mode, which secure boot wants."""

    state: bool | None = xml("@state", ON_OFF)
    tseg: Size | None = xml("tseg", size("MiB"), gt=0, doc="How much memory it has for itself.")


class Features(Section):
    """Features of the hypervisor. Those that are not named are its own choice."""

    acpi: bool | None = flag("acpi", "Without it no guest shuts down when asked. Default: true.")
    apic: bool | None = flag("apic", "Interrupts of several CPUs. Default: true.")
    apic_eoi: bool | None = xml("apic/@eoi", ON_OFF, doc="The end of an interrupt is told without an exit.")
    pae: bool | None = flag("pae", "Addresses of 36 bits on 32-bit guests.")
    hap: bool | None = switch("hap", "Paging by hardware.")
    viridian: bool | None = flag("viridian", "Xen's enlightenments for Windows.")
    privnet: bool | None = flag("privnet", "A network namespace of its own (containers).")
    pmu: bool | None = switch("pmu", "Performance counters.")
    vmport: bool | None = switch("vmport", "VMware's port for the mouse.")
    vmcoreinfo: bool | None = switch("vmcoreinfo", "The guest may tell where its kernel's dump is to be found.")
    pvspinlock: bool | None = switch("pvspinlock", "Waits for a lock are told to the hypervisor.")
    smm: Smm | None = xml("smm")
    ioapic: Literal["kvm", "qemu"] | None = xml("ioapic/@driver", doc="qemu for an IOMMU that remaps interrupts.")
    msrs_unknown: Literal["ignore", "fault"] | None = xml(
        "msrs/@unknown", doc="What a guest gets that asks for a register of the CPU that it has not."
    )
    gic: Literal["2", "3", "host"] | None = xml("gic/@version", lasting=True, doc="ARM's interrupt controller.")
    hyperv: Hyperv | None = xml("hyperv")
    kvm: Kvm | None = xml("kvm")
    xen_e820_host: bool | None = switch("xen/e820_host", "The host's memory map (Xen).")
    xen_passthrough: bool | None = switch("xen/passthrough", "Devices of the host's (Xen).")
    xen_passthrough_mode: Literal["sync_pt", "share_pt"] | None = xml("xen/passthrough/@mode", doc="Xen only.")
    tcg_tb_cache: Size | None = xml("tcg/tb-cache", size("KiB"), gt=0, doc="Translated code that QEMU keeps.")
    async_teardown: bool | None = xml("async-teardown/@enabled", doc="Its memory is given back after it has ended.")
    hpt_resizing: Literal["enabled", "disabled", "required"] | None = xml("hpt/@resizing", doc="POWER only.")
    hpt_max_page_size: Size | None = xml("hpt/maxpagesize", size("KiB"), gt=0, doc="POWER only.")
    htm: bool | None = switch("htm", "Transactional memory (POWER).")
    nested_hv: bool | None = switch("nested-hv", "Hypervisors in the guest (POWER).")
    ccf_assist: bool | None = switch("ccf-assist", "Help against a flaw of the CPU (POWER).")
    cfpc: Literal["broken", "workaround", "fixed"] | None = xml("cfpc/@value", doc="POWER only.")
    sbbc: Literal["broken", "workaround", "fixed"] | None = xml("sbbc/@value", doc="POWER only.")
    ibs: Literal["broken", "workaround", "fixed-ibs", "fixed-ccd", "fixed-na"] | None = xml(
        "ibs/@value", doc="POWER only."
    )
    aia: Literal["none", "aplic", "aplic-imsic"] | None = xml(
        "aia/@value", lasting=True, doc="RISC-V's interrupt controller."
    )
    ras: bool | None = switch("ras", "Errors of memory are told (ARM).")
    ps2: bool | None = switch("ps2", "A keyboard and a mouse of the chipset's.")
