"""Where a specimen's id is a later component of its field, what stands before it is never the id of a tube unread."""

from __future__ import annotations

import pytest

from interface.driver import registry
from interface.driver.decode_lis02 import decode

HEADS = {"hitachi_7600": "H|\\^&|||H7600^1|||||host|RSUPL^REAL|P|1", "ids_isys": "H|\\^_|||IDS-iSYS^1|||||||P|2"}


@pytest.mark.parametrize(
    ("driver", "sent", "read"),
    [
        ("hitachi_7600", "20011^                      ^1^^011", None),  # counter^specimen id: the barcode was not read
        ("hitachi_7600", "20011^", None),
        ("hitachi_7600", "20011^S-630002              ^1^^011", "S-630002"),
        ("hitachi_7600", "              S-630001", "S-630001"),
        ("ids_isys", "01^", None),  # container^specimen id
        ("ids_isys", "01^7148901", "7148901"),
        ("ids_isys", "7148901", "7148901"),
    ],
)
def test_the_number_before_an_id_that_was_not_read_is_no_id(driver: str, sent: str, read: str | None) -> None:
    text = f"{HEADS[driver]}\rP|1\rO|1|{sent}||^^^717/|R\rR|1|^^^717/|5.1|mmol/L||N||F\rL|1|N\r"
    decoded = decode(registry.load(driver), text.encode())
    (specimen,) = decoded.specimens
    assert specimen.specimen_id == read
    assert [one.location for one in decoded.problems] == ([] if read else ["O 1"])
