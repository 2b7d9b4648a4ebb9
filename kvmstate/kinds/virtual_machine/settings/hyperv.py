"""What a hypervisor tells its guest of itself: https://libvirt.org/formatdomain.html#hypervisor-features"""

from typing import Literal

from kvmstate.kinds.virtual_machine.settings.switches import switch
from kvmstate.xmlbind import Section, xml


class Hyperv(Section):
    """Enlightenments, by which Windows runs well: https://libvirt.org/formatdomain.html#hypervisor-features"""

    mode: Literal["custom", "passthrough", "host-model"] | None = xml(
        "@mode", lasting=True, doc="passthrough: all that the host has. Default: custom."
    )
    relaxed: bool | None = switch("relaxed", "No watchdog timeouts of the guest's own.")
    vapic: bool | None = switch("vapic", "A virtual APIC.")
    spinlocks: bool | None = switch("spinlocks", "Long waits for a lock are told to the hypervisor.")
    spinlock_retries: int | None = xml("spinlocks/@retries", ge=4095, lasting=True, doc="After so many attempts.")
    vpindex: bool | None = switch("vpindex", "Virtual processors have an index.")
    runtime: bool | None = switch("runtime", "The guest sees how long it ran.")
    synic: bool | None = switch("synic", "A synthetic interrupt controller.")
    stimer: bool | None = switch("stimer", "Synthetic timers.")
    stimer_direct: bool | None = switch("stimer/direct", "These interrupt directly.")
    reset: bool | None = switch("reset", "The guest resets itself by a register.")
    vendor_id: str | None = xml("vendor_id/@value", max_length=12, doc="What the hypervisor calls itself.")
    vendor_id_state: bool | None = switch("vendor_id", "Whether it does.")
    frequencies: bool | None = switch("frequencies", "The frequencies of its timers.")
    reenlightenment: bool | None = switch("reenlightenment", "It is told of migrations.")
    tlbflush: bool | None = switch("tlbflush", "Flushes of address translations by a call.")
    tlbflush_direct: bool | None = switch("tlbflush/direct", "Also by hypervisors in the guest.")
    tlbflush_extended: bool | None = switch("tlbflush/extended", "Of parts of the memory.")
    ipi: bool | None = switch("ipi", "Interrupts between processors by a call.")
    evmcs: bool | None = switch("evmcs", "For hypervisors in the guest on Intel CPUs.")
    avic: bool | None = switch("avic", "Interrupts by hardware, where the host has it.")
    emsr_bitmap: bool | None = switch("emsr_bitmap", "For hypervisors in the guest: fewer exits for registers.")
    xmm_input: bool | None = switch("xmm_input", "Calls with fast input.")


class Kvm(Section):
    """What the guest is told of KVM."""

    hidden: bool | None = switch("hidden", "Guests do not see that it is KVM, which some drivers want.")
    hint_dedicated: bool | None = switch("hint-dedicated", "The guest is told that its CPUs are its own.")
    poll_control: bool | None = switch("poll-control", "The guest polls before it halts.")
    pv_ipi: bool | None = switch("pv-ipi", "Interrupts between processors by a call.")
    dirty_ring: bool | None = switch("dirty-ring", "Changed memory is told in a ring.")
    dirty_ring_size: int | None = xml("dirty-ring/@size", ge=1024, le=65536, lasting=True, doc="A power of two.")
