POINT() { labora qc result list --json | pick '[one["id"] for one in it if one["value"].startswith("6.15")][0]'; }
before_2() { # a new lot, measured for twelve days
  local each
  labora qc lot create "Multi Control" 4712 --level low --level-number 1 --expires 2099-05-31 --identifier QC2 --analyzer chem --as dora
  for each in {1..20}; do
    labora qc result enter chem GLU 4712/low "5.1$((each % 7))" --unit mmol/L --at "2026-11-$((each % 12 + 10))T0$((each % 9)):00" --as tess
  done
}
before_5() { # a patient's result was released between a control that was good and one that was not
  local at
  at=$(sed -n '/id = "cobas-1"/,/listen/s/.*listen = "\([^"]*\)".*/\1/p' "$LABORA_CONFIG")
  labora qc lot create "Multi Control" 4713 --level low --level-number 1 --expires 2099-05-31 --identifier QC3 --analyzer cobas-1 --as dora
  labora qc target set 4713/low --analyzer cobas-1 --test GLU_SI --mean 5.20 --sd 0.15 --unit mmol/L --source manufacturer --note insert --reason "new lot" --as dora
  labora qc result enter cobas-1 GLU_SI 4713/low 5.20 --as tess
  labora order create --as vera --barcode Q-1 --type SER --test GLU_SI --identifier P-Q --family Probe --birth-date 1970-01-01 --sex male
  labora simulate --driver roche_cobas_c311 --specimen Q-1 --test 717 --to "$at"
  until_so eval 'labora result list --specimen Q-1 --as vera --json | grep -q preliminary'
  labora result release "$(labora result list --specimen Q-1 --as vera --json | pick 'it[0]["id"]')" --as vera
  labora qc result enter cobas-1 GLU_SI 4713/low 9.90 --as tess
  until_so eval 'labora qc lookback list --json | grep -q "\"id\""'
}
LIST() { labora qc lookback list --json | pick 'it[0]["id"]'; }
