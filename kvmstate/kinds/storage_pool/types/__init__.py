"""A module for each type of storage pools that manifests have fields for: https://libvirt.org/storage.html"""
