"""Where the standards themselves put things: what a driver's paths are until it says otherwise. Pure."""

from __future__ import annotations

from interface.domain.model import Protocol, SpecimenRole
from interface.driver.dialogue import LIS2_SEXES, Answer, Each, Over
from interface.driver.manifest import FieldPaths, QueryRule
from interface.driver.materials import Material, MaterialRule
from interface.driver.rules import Condition, FieldPath, RoleRule


def _at(record: str, field: int, component: int | None = None, subcomponent: int | None = None) -> FieldPath:
    return FieldPath(record, field, component, subcomponent)


# LIS02-A2 clauses 6 to 9. R-3 is `universal^name^type^local`: the fourth component is the analyzer's own code, the
# others are taken only where it is empty.
_LIS2 = FieldPaths(
    sender=(_at("H", 5),),
    patient_id=(_at("P", 3, 1), _at("P", 4, 1), _at("P", 5, 1)),
    patient_name=(_at("P", 6),),
    birth_date=(_at("P", 8, 1),),
    sex=(_at("P", 9, 1),),
    specimen_id=(_at("O", 3, 1),),
    specimen_type=(_at("O", 16, 1),),
    order_code=(_at("O", 5, 4), _at("O", 5, 1)),
    collected=(_at("O", 8, 1),),
    code=(_at("R", 3, 4), _at("R", 3, 1)),
    name=(_at("R", 3, 2),),
    value=(_at("R", 4),),
    unit=(_at("R", 5, 1),),
    reference=(_at("R", 6),),
    flags=(_at("R", 7),),
    status=(_at("R", 9, 1),),
    instrument_time=(_at("R", 13, 1), _at("R", 12, 1)),
    operator=(_at("R", 11, 1),),
)

# HL7 v2.5.1 chapter 7: SPM-2 is the specimen's identifier, before 2.5 SAC-3 was the container's. OBR-3 is an order's
# number, whatever some senders put there: a driver says so, the standard does not.
_HL7 = FieldPaths(
    sender=(_at("MSH", 3, 1),),
    patient_id=(_at("PID", 3, 1), _at("PID", 2, 1)),
    patient_name=(_at("PID", 5),),
    birth_date=(_at("PID", 7, 1),),
    sex=(_at("PID", 8, 1),),
    specimen_id=(_at("SPM", 2, 1, 1), _at("SPM", 2, 2, 1), _at("SAC", 3, 1, 1)),
    specimen_type=(_at("SPM", 4, 1), _at("OBR", 15, 1)),
    order_code=(_at("OBR", 4, 1),),
    collected=(_at("SPM", 17, 1), _at("OBR", 7, 1)),
    code=(_at("OBX", 3, 1),),
    name=(_at("OBX", 3, 2),),
    value=(_at("OBX", 5),),
    unit=(_at("OBX", 6, 1),),
    reference=(_at("OBX", 7),),
    flags=(_at("OBX", 8),),
    status=(_at("OBX", 11, 1),),
    instrument_time=(_at("OBX", 19, 1), _at("OBX", 14, 1)),
    operator=(_at("OBX", 16, 1),),
    method=(_at("OBX", 17, 2), _at("OBX", 17, 9), _at("OBX", 17, 1)),
)

DEFAULT_PATHS = {Protocol.LIS2: _LIS2, Protocol.HL7: _HL7}

# What a message that is no patient's says of itself, by LIS02-A2 H-12 and O-12 and HL7 table 0103, whatever analyzer
# sent it. That it was sent for training or debugging comes before a driver's own rules, that it is a control's after
# them.
_PROCESSING = {Protocol.LIS2: _at("H", 12, 1), Protocol.HL7: _at("MSH", 11, 1)}
TRAINING_ROLES = {
    protocol: (RoleRule(SpecimenRole.OTHER, (Condition(path, frozenset({"T", "D"})),)),)
    for protocol, path in _PROCESSING.items()
}
CONTROL_ROLES = {
    protocol: tuple(RoleRule(SpecimenRole.QC, (Condition(path, frozenset({"Q"})),)) for path in paths)
    for protocol, paths in (
        (Protocol.LIS2, (_at("O", 12, 1), _PROCESSING[Protocol.LIS2])),
        (Protocol.HL7, (_PROCESSING[Protocol.HL7],)),
    )
}

# HL7 v2.5.1 chapter 13, INV: INV-3 is the kind of a substance (table 0384: SR and MR reagents, RC a calibrator, CO a
# control), INV-16 its manufacturer's lot. IHE LAW LAB-29 sends them with a result or its container; an OBR is one test,
# and some send them with another of its OBX.
MATERIALS = {
    Protocol.HL7: tuple(
        MaterialRule(what, _at("INV", 16, 1), (Condition(_at("INV", 3, 1), frozenset(kinds)),), beside=True)
        for what, kinds in (
            (Material.REAGENT_LOT, ("SR", "MR")),
            (Material.CALIBRATOR_LOT, ("RC",)),
            (Material.CONTROL_LOT, ("CO",)),
        )
    )
}

DEFAULT_QUERIES = {
    # LIS02-A2 clause 10: Q-3 is `patient id^specimen id`, repeated for a list, or ALL; Q-13 A takes the last one back.
    Protocol.LIS2: QueryRule(
        specimen_id=(_at("Q", 3, 2),),
        patient_id=(_at("Q", 3, 1),),
        tests=(_at("Q", 5, 4), _at("Q", 5, 1)),
        status=(_at("Q", 13, 1),),
        cancels=frozenset({"A"}),
    ),
    # IHE LAW LAB-27: QPD-3 is the container of the work order step.
    Protocol.HL7: QueryRule(
        specimen_id=(_at("QPD", 3, 1, 1),),
        message_types=frozenset({"QBP^Q11"}),
    ),
}

# LIS02-A2: O-12 A adds tests to a specimen, O-26 Q answers a query; L-3 F: the last request is processed, I: there is
# no information; H-11 is for comments. IHE LAW: the reply to LAB-27 says only that the query was understood, the orders
# follow as LAB-28; nothing to do is an order that is discontinued, of a specimen of unknown role.
_RSP = (
    r"MSH|^~\&|Labora||{MSH-3}||{now}||RSP^K11^RSP_K11|{control_id}|P|2.5.1||||||UNICODE UTF-8|||LAB-27^IHE",
    "MSA|AA|{MSH-10}",
    "QAK|{QPD-2}|OK|{QPD-1}",
    "{QPD}",
)
_OML = r"MSH|^~\&|Labora||{MSH-3}||{now}||OML^O33^OML_O33|{control_id}|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-28^IHE"
DEFAULT_ANSWERS = {
    Protocol.LIS2: Answer(
        found=(
            (
                r"H|\^&|||Labora||||||{note}||LIS2-A2|{now}",
                Each(
                    Over.SPECIMEN,
                    (
                        "P|{n}|{patient_id}|||{family}^{given}||{birth_date}|{sex}",
                        "O|1|{specimen_id}||{tests}|{priority}||{collected}||||A||||{specimen_type}||||||||||Q",
                    ),
                ),
                "L|1|F",
            ),
        ),
        none=((r"H|\^&|||Labora||||||{note}||LIS2-A2|{now}", "L|1|I"),),
        test="^^^{code}",
        sex=LIS2_SEXES,
    ),
    Protocol.HL7: Answer(
        found=(
            _RSP,
            (
                _OML,
                Each(
                    Over.SPECIMEN,
                    (
                        "SPM|{n}|{specimen_id}||{specimen_type}|||||||P^^HL70369",
                        "SAC|||{specimen_id}",
                        Each(
                            Over.TEST,
                            ("ORC|NW||||||||{now}", "TQ1|||||||||{priority}^^HL70485", "OBR|{n}|{item_id}||{code}"),
                        ),
                    ),
                ),
            ),
        ),
        none=(_RSP, (_OML, 'SPM|1|||""|||||||U^^HL70369', "SAC|||{specimen_id}", "ORC|DC||||||||{now}")),
    ),
}
