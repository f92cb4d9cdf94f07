"""The words of a report in its languages. Names of tests, units, flags and what persons wrote stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, tzinfo

from interface.domain.model import Priority, Sex
from interface.domain.report import Language
from interface.domain.times import local

_EN: Mapping[str, str] = {
    "title": "LABORATORY REPORT", "patient": "Patient", "number": "Patient number", "born": "Date of birth",
    "sex": "Sex", "order": "Order", "placer": "Placer's number", "requester": "Requested by", "ward": "Ward",
    "ordered": "Ordered", "priority": "Priority", "history": "Clinical information", "director": "Laboratory director",
    "specimen": "Specimen", "type": "Type", "collected": "Collected", "received": "Received", "condition": "Condition",
    "fit": "acceptable", "unfit": "REJECTED: {}", "minutes": "at {} min", "unknown": "not stated",
    "test": "Test", "result": "Result", "flag": "Flag", "unit": "Unit", "interval": "Reference interval",
    "previous": "Previous", "trend": "Trend", "results": "Results", "of": "{}, specimen {}",
    "below": "see the text below", "withdrawn": "WITHDRAWN", "preliminary": "Preliminary, not yet confirmed.",
    "was": "CORRECTED {}. Reported before: {}, {}.",
    "as_before": "AMENDED {}: a comment was added. Reported before, unchanged: {}, {}.",
    "withdrawn_was": "WITHDRAWN {}: entered in error, not to be used. Reported before: {}, {}.",
    "withdrawn_none": "WITHDRAWN {}: entered in error, not to be used.",
    "its_interval": "(interval {})", "waiting": "Not yet reported", "never": "No result", "cancelled": "cancelled",
    "rejected": "rejected", "released": "Released", "by_rules": "automatically, by the rules {}",
    "checked": "{}, checked by {}", "nobody": "name not recorded", "legend": "Flags", "end": "End of the report",
    "replaces": "Version {}, issued {}. It replaces version {} of {}, which is kept.",
    "issued": "Version {}, issued {}.", "page": "page {} of {}", "footer": "Order {}, version {}, issued {} ({})",
    "marked": "CORRECTED REPORT: the results that were changed are marked, with what was reported before.",
    "added": "AMENDED REPORT: comments were added to the results that are marked, which are unchanged.",
    "part": "PRELIMINARY REPORT: results are still to come, or to be confirmed.",
    "at_least": "≥ {}", "at_most": "≤ {}",
    "status.registered": "REGISTERED", "status.partial": "PARTIAL", "status.preliminary": "PRELIMINARY",
    "status.final": "FINAL", "status.amended": "AMENDED", "status.corrected": "CORRECTED",
    "status.cancelled": "CANCELLED", "status.entered-in-error": "WITHDRAWN",
    "flag.H": "above the interval", "flag.L": "below the interval", "flag.HH": "critically high",
    "flag.LL": "critically low", "flag.A": "abnormal", "flag.AA": "critically abnormal",
    "flag.U": "clearly higher than before", "flag.D": "clearly lower than before",
    "flag.<": "below what can be measured", "flag.>": "above what can be measured",
}  # fmt: skip
_ID: Mapping[str, str] = {
    "title": "LAPORAN HASIL LABORATORIUM", "patient": "Pasien", "number": "Nomor pasien", "born": "Tanggal lahir",
    "sex": "Jenis kelamin", "order": "Nomor permintaan", "placer": "Nomor pengirim", "requester": "Diminta oleh",
    "ward": "Ruang", "ordered": "Tanggal permintaan", "priority": "Prioritas", "history": "Keterangan klinis",
    "director": "Penanggung jawab", "specimen": "Spesimen", "type": "Jenis", "collected": "Diambil",
    "received": "Diterima", "condition": "Kondisi", "fit": "layak", "unfit": "DITOLAK: {}", "minutes": "pada menit {}",
    "unknown": "tidak disebutkan",
    "test": "Pemeriksaan", "result": "Hasil", "flag": "Tanda", "unit": "Satuan", "interval": "Nilai rujukan",
    "previous": "Sebelumnya", "trend": "Tren", "results": "Hasil", "of": "{}, spesimen {}",
    "below": "lihat teks di bawah", "withdrawn": "DITARIK", "preliminary": "Sementara, belum dipastikan.",
    "was": "DIKOREKSI {}. Dilaporkan sebelumnya: {}, {}.",
    "as_before": "DIUBAH {}: ada keterangan tambahan. Dilaporkan sebelumnya, tetap: {}, {}.",
    "withdrawn_was": "DITARIK {}: salah masuk, jangan digunakan. Dilaporkan sebelumnya: {}, {}.",
    "withdrawn_none": "DITARIK {}: salah masuk, jangan digunakan.",
    "its_interval": "(rujukan {})", "waiting": "Belum dilaporkan", "never": "Tanpa hasil", "cancelled": "dibatalkan",
    "rejected": "ditolak", "released": "Divalidasi", "by_rules": "otomatis, oleh aturan {}",
    "checked": "{}, diperiksa oleh {}", "nobody": "nama tidak tercatat", "legend": "Tanda", "end": "Akhir laporan",
    "replaces": "Versi {}, terbit {}. Menggantikan versi {} tanggal {}, yang tetap disimpan.",
    "issued": "Versi {}, terbit {}.", "page": "halaman {} dari {}", "footer": "Permintaan {}, versi {}, terbit {} ({})",
    "marked": "LAPORAN KOREKSI: hasil yang diubah diberi tanda, beserta yang dilaporkan sebelumnya.",
    "added": "LAPORAN DIUBAH: ada keterangan tambahan pada hasil yang diberi tanda; hasilnya tetap.",
    "part": "LAPORAN SEMENTARA: masih ada hasil yang menyusul atau belum dipastikan.",
    "at_least": "≥ {}", "at_most": "≤ {}",
    "status.registered": "TERDAFTAR", "status.partial": "SEBAGIAN", "status.preliminary": "SEMENTARA",
    "status.final": "FINAL", "status.amended": "DIUBAH", "status.corrected": "DIKOREKSI",
    "status.cancelled": "DIBATALKAN", "status.entered-in-error": "DITARIK",
    "flag.H": "di atas nilai rujukan", "flag.L": "di bawah nilai rujukan", "flag.HH": "kritis tinggi",
    "flag.LL": "kritis rendah", "flag.A": "abnormal", "flag.AA": "abnormal kritis",
    "flag.U": "jelas lebih tinggi dari sebelumnya", "flag.D": "jelas lebih rendah dari sebelumnya",
    "flag.<": "di bawah batas ukur", "flag.>": "di atas batas ukur",
}  # fmt: skip
WORDS: Mapping[Language, Mapping[str, str]] = {Language.ENGLISH: _EN, Language.INDONESIAN: _ID}
SEXES: Mapping[Language, Mapping[Sex, str]] = {
    Language.ENGLISH: {Sex.FEMALE: "female", Sex.MALE: "male", Sex.OTHER: "other", Sex.UNKNOWN: "not stated"},
    Language.INDONESIAN: {
        Sex.FEMALE: "perempuan", Sex.MALE: "laki-laki", Sex.OTHER: "lainnya", Sex.UNKNOWN: "tidak disebutkan",
    },
}  # fmt: skip
PRIORITIES: Mapping[Language, Mapping[Priority, str]] = {
    Language.ENGLISH: {
        Priority.STAT: "STAT", Priority.ASAP: "as soon as possible", Priority.ROUTINE: "routine",
        Priority.CALLBACK: "call back", Priority.PREOP: "before surgery",
    },
    Language.INDONESIAN: {
        Priority.STAT: "CITO", Priority.ASAP: "segera", Priority.ROUTINE: "rutin",
        Priority.CALLBACK: "hubungi kembali", Priority.PREOP: "praoperasi",
    },
}  # fmt: skip
_MONTHS: Mapping[Language, tuple[str, ...]] = {
    Language.ENGLISH: tuple("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()),
    Language.INDONESIAN: tuple("Jan Feb Mar Apr Mei Jun Jul Agu Sep Okt Nov Des".split()),
}


def day(at: date, language: Language) -> str:
    return f"{at.day} {_MONTHS[language][at.month - 1]} {at.year}"


def moment(at: datetime, zone: tzinfo, language: Language) -> str:
    """`3 Nov 2026 08:12`."""
    shown = local(at, zone)
    return f"{day(shown, language)} {shown:%H:%M}"
