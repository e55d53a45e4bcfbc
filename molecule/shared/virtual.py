#!/usr/bin/env python3
"""The virtual address of a scenario, and with it the network of its hosts: another one for each checkout on this machine."""

import ipaddress
import os
import zlib
from pathlib import Path


def virtual_address() -> ipaddress.IPv4Interface:
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).name
    place = zlib.crc32(f"{os.environ.get('WEBSTACK_ID', 'local')} {scenario}".encode())
    return ipaddress.IPv4Interface(f"10.{208 + place % 16}.{place // 16 % 256}.10/24")


if __name__ == "__main__":
    print(virtual_address())
