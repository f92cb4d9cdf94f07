"""Results by the specimen id that an analyzer sent, without an index of their own over it.

The natural key of a result begins with that id (`domain.identity`), so that its index finds what is called so. Of an id
that the key has only the beginning of, which many specimens may share, the versions have an index, and of what was
typed or calculated (without a code): it says the barcode that its specimen had then.
"""

from __future__ import annotations

from interface.domain.identity import BEGINNING as _WHOLE  # as in the index's condition

_BEGINS = f"substr(convert_to(b.sent, 'UTF8') || decode(repeat('00', {_WHOLE}), 'hex'), 1, {_WHOLE})"


def results_called(ids: str) -> str:
    """The ids of results of a specimen that has one of these barcodes, or was called so by an analyzer; `ids`: an
    array of text."""
    return f"""
        select r.id from unnest({ids}::text[]) as b (sent)
        join lab.specimen s on s.barcode = b.sent join lab.result r on r.specimen_id = s.id
        union
        select r.id from (select b.sent, {_BEGINS} as begins from unnest({ids}::text[]) as b (sent)
                          where octet_length(b.sent) <= {_WHOLE} offset 0) b
        cross join lateral (
            select w.id, w.version_id from lab.result w where w.natural_key >= b.begins
            and w.natural_key <= b.begins || decode(repeat('ff', 16), 'hex') offset 0) r
        join lateral (
            select v.specimen_as_sent from lab.result_version v where v.id = r.version_id offset 0) v
        on v.specimen_as_sent = b.sent
        union
        select v.result_id from unnest({ids}::text[]) as b (sent)
        join lab.result_version v on v.specimen_as_sent = b.sent
             and (octet_length(v.specimen_as_sent) > {_WHOLE} or v.code = '')
    """  # noqa: S608 - names of ours
