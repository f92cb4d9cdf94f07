POINT() { labora qc result list --json | pick '[one["id"] for one in it if one["value"].startswith("6.15")][0]'; }
before_2() { # a new lot, measured for twelve days
  local each
  labora qc lot create "Multi Control" 4712 --level low --level-number 1 --expires 2099-05-31 --identifier QC2 --analyzer chem --as dora
  for each in {1..20}; do
    labora qc result enter chem GLU 4712/low "5.1$((each % 7))" --at "2026-11-$((each % 12 + 10))T0$((each % 9)):00" --as tess
  done
}
