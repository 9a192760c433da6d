"""What the backend finds out before any worker talks to another."""

import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray import HorovodConfig
from sharedlayers_dist.ray.backend import find_interface


def test_an_interface_is_found_by_its_address_or_its_name():
    loopback = find_interface("127.0.0.1")
    assert find_interface("192.0.2.77", loopback) == loopback
    with pytest.raises(UserError, match=r"interface='' on the node 192.0.2.77, which has .*lo"):
        find_interface("192.0.2.77")
    with pytest.raises(UserError, match=r"interface='wire' on the node 127\.0\.0\.1"):
        find_interface("127.0.0.1", "wire")


def test_a_time_to_connect_must_be_positive():
    with pytest.raises(UserError, match="connect_seconds=0"):
        HorovodConfig(connect_seconds=0)
