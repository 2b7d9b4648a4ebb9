"""Where sound goes on the host: https://libvirt.org/formatdomain.html#audio-backends"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import Section, xml


class Direction(Section):
    """What is played, or recorded."""

    mixing_engine: bool | None = xml("@mixingEngine", lasting=True, doc="QEMU mixes itself.")
    fixed_settings: bool | None = xml("@fixedSettings", lasting=True, doc="Always as `frequency` and so on say.")
    voices: int | None = xml("@voices", ge=1, lasting=True, doc="How many at a time.")
    buffer_length: int | None = xml("@bufferLength", ge=1, lasting=True, doc="In microseconds.")
    buffer_count: int | None = xml("@bufferCount", ge=1, lasting=True)
    dev: str | None = xml("@dev", lasting=True, doc="The host's device; alsa and oss.")
    name: str | None = xml("@name", lasting=True, doc="As PulseAudio, PipeWire or the file calls it.")
    stream_name: str | None = xml("@streamName", lasting=True)
    latency: int | None = xml("@latency", ge=1, lasting=True, doc="In microseconds; pulseaudio and pipewire.")
    try_poll: bool | None = xml("@tryPoll", lasting=True)
    server_name: str | None = xml("@serverName", lasting=True, doc="jack only.")
    client_name: str | None = xml("@clientName", lasting=True, doc="jack only.")
    connect_ports: str | None = xml("@connectPorts", lasting=True, doc="jack only: a regular expression.")
    exact_name: bool | None = xml("@exactName", lasting=True, doc="jack only.")
    frequency: int | None = xml("settings/@frequency", ge=1, lasting=True, doc="In hertz.")
    channels: int | None = xml("settings/@channels", ge=1, lasting=True)
    format: Literal["s8", "u8", "s16", "u16", "s32", "u32", "f32"] | None = xml("settings/@format", lasting=True)


class Audio(Device):
    """Where sound goes on the host."""

    tag = "audio"
    key = "id"

    id: int = xml("@id", required=True, ge=1, doc="By which sound cards name it.")
    type: Literal[
        "none", "alsa", "coreaudio", "dbus", "file", "jack", "oss", "pipewire", "pulseaudio", "sdl", "spice"
    ] = xml("@type", required=True)
    timer_period: int | None = xml("@timerPeriod", ge=1, doc="In microseconds.")
    driver: str | None = xml("@driver", pattern=r"^[A-Za-z0-9_]+$", doc="sdl only.")
    path: str | None = xml("@path", doc="file only.")
    server_name: str | None = xml("@serverName", doc="pulseaudio only.")
    runtime_dir: str | None = xml("@runtimeDir", doc="pipewire only.")
    try_mmap: bool | None = xml("@tryMMap", doc="oss only.")
    exclusive: bool | None = xml("@exclusive", doc="oss only.")
    dsp_policy: int | None = xml("@dspPolicy", ge=-1, doc="oss only.")
    input: Direction | None = xml("input")
    output: Direction | None = xml("output")
