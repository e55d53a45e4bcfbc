#!/usr/bin/env python3
"""The virtual address of the scenario, and with it the network of its hosts: another one for each checkout on this machine."""

import ipaddress
import os
import zlib


def virtual_address() -> ipaddress.IPv4Interface:
    place = zlib.crc32(os.environ.get("WEBSTACK_ID", "local").encode()) % 256
    return ipaddress.IPv4Interface(f"10.213.{place}.10/24")


if __name__ == "__main__":
    print(virtual_address())
