"""Machines when their host boots and shuts down: started after others, and stopped before them, as `hostBoot` and
`onHostShutdown` say in their domains' metadata. No manifest is needed, and no daemon but libvirt's."""
