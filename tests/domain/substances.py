"""Molar masses worked out from formulas, for the tests of conversions between mass and amount."""

from __future__ import annotations

import re
from decimal import Decimal

# Conventional atomic weights: IUPAC Commission on Isotopic Abundances and Atomic Weights, 2021.
ATOMIC_WEIGHTS = {
    symbol: Decimal(weight)
    for symbol, weight in {
        "H": "1.008", "Li": "6.94", "C": "12.011", "N": "14.007", "O": "15.999", "F": "18.998", "Mg": "24.305",
        "Al": "26.982", "P": "30.974", "S": "32.06", "Cl": "35.45", "Ca": "40.078", "Cr": "51.996", "Mn": "54.938",
        "Fe": "55.845", "Co": "58.933", "Ni": "58.693", "Cu": "63.546", "Zn": "65.38", "As": "74.922", "Se": "78.971",
        "Br": "79.904", "I": "126.90", "Hg": "200.59", "Pb": "207.2", "Bi": "208.98",
    }.items()
}  # fmt: skip
_ATOMS = re.compile(r"([A-Z][a-z]?)(\d*)")


def molar_mass(formula: str) -> Decimal:
    """Of `C6H12O6`, in g/mol."""
    assert formula == "".join(symbol + count for symbol, count in _ATOMS.findall(formula))
    return sum((ATOMIC_WEIGHTS[symbol] * int(count or 1) for symbol, count in _ATOMS.findall(formula)), Decimal(0))


# What the mass of a shipped test is of. Urea nitrogen: a mole of urea has two of nitrogen. Phosphate is told as
# phosphorus, triglyceride as triolein, iron binding capacity as the iron bound, vitamin D as 25-hydroxyvitamin D3.
FORMULAS = {
    test: formula
    for formula, tests in {
        "C6H12O6": (
            "GLU GLU_SI GLU_FAST_SI GLU_2H_SI B_GLU B_GLU_SI U_GLU U_GLU_SI CSF_GLU CSF_GLU_SI BF_GLU BF_GLU_SI"
            " EAG EAG_SI"
        ),
        "N2": "BUN U_UREAN B_UREAN",
        "CH4N2O": "UREA",
        "C4H7N3O": "CREA CREA_ENZ CREA_SI U_CREA U_CREA_SI U24_CREA U24_CREA_SI B_CREA B_CREA_SI BF_CREA",
        "C5H4N4O3": "UA UA_SI U_UA U_UA_SI",
        "Ca": "CA CA_SI CA_CORR_SI CAI B_CAI U_CA U_CA_SI U24_CA U24_CA_SI",
        "Mg": "MG MG_SI U_MG",
        "P": "PHOS PHOS_SI U_PHOS U_PHOS_SI",
        "C33H36N4O6": "TBIL TBIL_SI DBIL DBIL_SI IBIL IBIL_SI B_TBIL",
        "C27H46O": "CHOL CHOL_SI HDL HDL_SI LDL LDL_SI LDL_DIR LDL_DIR_SI VLDL VLDL_SI NONHDL NONHDL_SI",
        "C57H104O6": "TRIG TRIG_SI",
        "Fe": "IRON IRON_SI TIBC TIBC_SI UIBC UIBC_SI",
        "Cu": "CU CU_SI",
        "Zn": "ZN ZN_SI",
        "Se": "SE_SI",
        "Pb": "PB_SI",
        "Li": "LI",
        "C19H19N7O6": "FOL FOL_SI",
        "C63H88CoN14O14P": "B12 B12_SI",
        "C27H44O2": "VITD VITD3 VITD3_SI",
        "C4H9NO2S": "HCYS",
        "C4H6O4": "MMA",
        "C4H8O3": "BHB",
        "C3H6O3": "LAC LAC_A B_LAC",
        "C15H11I4NO4": "FT4 FT4_SI T4 T4_SI",
        "C15H12I3NO4": "FT3 FT3_SI T3 T3_SI",
        "C18H24O2": "E2 E2_SI",
        "C18H24O3": "E3U_SI",
        "C21H30O2": "PROG PROG_SI",
        "C19H28O2": "TESTO TESTO_SI FTESTO FTESTO_SI",
        "C19H28O5S": "DHEAS DHEAS_SI",
        "C21H30O3": "OHP17_SI",
        "C19H26O2": "ANDRO_SI",
        "C21H30O5": "CORT CORT_SI",
        "C21H28O5": "ALDO_SI",
        "C41H64O14": "DIG DIG_SI",
        "C15H12N2O2": "PHENY PHENY_SI",
        "C8H16O2": "VALP VALP_SI",
        "C15H12N2O": "CARB CARB_SI",
        "C12H12N2O3": "PHENO PHENO_SI",
        "C9H7Cl2N5": "LAMO_SI",
        "C8H14N2O2": "LEV",
        "C12H21NO8S": "TOPI",
        "C7H8N4O2": "THEO THEO_SI",
        "C66H75Cl2N9O24": "VANC VANC_TR VANC_PK",
        "C20H22N8O5": "MTX",
        "C44H69NO12": "TACRO",
        "C62H111N11O12": "CSA",
        "C51H79NO13": "SIRO",
        "C53H83NO14": "EVERO",
        "C8H9NO2": "ACET ACET_SI",
        "C7H6O3": "SALI SALI_SI",
        "C2H6O": "ETOH ETOH_B ETOH_SI",
    }.items()
    for test in tests.split()
}
VALENCES = {
    test: valence
    for valence, tests in {
        1: (
            "NA K CL CO2 HCO3 AGAP LI U_NA U_K U_CL U24_NA NA_A K_A CL_A B_NA B_K B_CL HCO3_A HCO3_V HCO3_C "
            "HCO3_B TCO2_A TCO2_B BE_A BE_V BE_C BE_B"
        ),
        2: "CA CA_SI CA_CORR_SI CAI B_CAI U_CA U_CA_SI U24_CA U24_CA_SI MG MG_SI U_MG",
    }.items()
    for test in tests.split()
}
